import OrderedCollections

extension Interpreter {
    func apply(_ operator: UnaryOperator, to operand: Value) throws(TemplateError) -> Value {
        if `operator` == .not { return .bool(try !isTrue(operand)) }
        try refuseUndefined(operand)
        switch Number(operand) {
        case .int(let int):
            guard `operator` == .minus else { return .int(int) }
            let (negated, overflow) = (0).subtractingReportingOverflow(int)
            return try whole(negated, overflow)
        case .float(let float): return .float(`operator` == .minus ? -float : float)
        case nil: throw failure("a value of type '\(operand.typeName)' has no sign")
        }
    }

    func refuseUndefined(_ value: Value) throws(TemplateError) {
        if case .undefined(let undefined) = value { throw failure(undefined.reason) }
    }

    private func whole(_ value: Int, _ overflow: Bool) throws(TemplateError) -> Value {
        guard !overflow else { throw failure("integers beyond 64 bits are not supported") }
        return .int(value)
    }

    func apply(_ operator: BinaryOperator, _ left: Value, _ right: Value) throws(TemplateError) -> Value {
        try refuseUndefined(left)
        if `operator` == .modulo, case .string(let format) = left { return try printf(format, right) }
        try refuseUndefined(right)
        if let left = Number(left), let right = Number(right) { return try calculate(`operator`, left, right) }
        switch (`operator`, left, right) {
        case (.add, .string(let left), .string(let right)): return .string(try join(left, right))
        case (.add, .list(let left), .list(let right)): return .list(try makeList(left.elements + right.elements))
        case (.add, .tuple(let left), .tuple(let right)): return .tuple(try makeList(left.elements + right.elements))
        case (.multiply, .string(let text), let count), (.multiply, let count, .string(let text)):
            guard !text.isMarkup, case .int(let count)? = Number(count) else { break }
            return .string(Text(try repeated(text.scalars, count)))
        case (.multiply, .list(let list), let count), (.multiply, let count, .list(let list)):
            guard case .int(let count)? = Number(count) else { break }
            return .list(try makeList(try repeated(list.elements, count)))
        case (.multiply, .tuple(let list), let count), (.multiply, let count, .tuple(let list)):
            guard case .int(let count)? = Number(count) else { break }
            return .tuple(try makeList(try repeated(list.elements, count)))
        default: break
        }
        throw failure(
            "'\(`operator`.rawValue)' is not defined for values of type '\(left.typeName)' and '\(right.typeName)'")
    }

    private func join(_ left: Text, _ right: Text) throws(TemplateError) -> Text {
        try charge(left.count + right.count)
        guard left.isMarkup || right.isMarkup else { return Text(left.scalars + right.scalars) }
        return Text(left.escaped.scalars + right.escaped.scalars, isMarkup: true)
    }

    private func repeated<Element>(_ elements: [Element], _ count: Int) throws(TemplateError) -> [Element] {
        guard count > 0, !elements.isEmpty else { return [] }
        let (total, overflow) = elements.count.multipliedReportingOverflow(by: count)
        try charge(overflow ? .max : total)
        return Array(repeatElement(elements, count: count).joined())
    }

    // MARK: Arithmetic

    private func calculate(
        _ operator: BinaryOperator, _ left: Number, _ right: Number
    ) throws(TemplateError) -> Value {
        if case .int(let left) = left, case .int(let right) = right { return try calculate(`operator`, left, right) }
        let (left, right) = (left.double, right.double)
        switch `operator` {
        case .add: return .float(left + right)
        case .subtract: return .float(left - right)
        case .multiply: return .float(left * right)
        case .divide, .floorDivide, .modulo:
            guard right != 0 else { throw failure("division by zero") }
            if `operator` == .divide { return .float(left / right) }
            var remainder = left.truncatingRemainder(dividingBy: right)
            if remainder != 0 && (remainder < 0) != (right < 0) { remainder += right }
            if remainder == 0 { remainder = right < 0 ? -0.0 : 0.0 }
            return .float(`operator` == .modulo ? remainder : ((left - remainder) / right).rounded())
        case .power: throw failure("powers of numbers that are not whole are not supported")
        }
    }

    private func calculate(_ operator: BinaryOperator, _ left: Int, _ right: Int) throws(TemplateError) -> Value {
        switch `operator` {
        case .add:
            let (sum, overflow) = left.addingReportingOverflow(right)
            return try whole(sum, overflow)
        case .subtract:
            let (difference, overflow) = left.subtractingReportingOverflow(right)
            return try whole(difference, overflow)
        case .multiply:
            let (product, overflow) = left.multipliedReportingOverflow(by: right)
            return try whole(product, overflow)
        case .divide:
            guard right != 0 else { throw failure("division by zero") }
            guard left.magnitude <= 1 << 53, right.magnitude <= 1 << 53 else {
                throw failure("division of integers beyond 53 bits is not supported")
            }
            return .float(Double(left) / Double(right))
        case .floorDivide, .modulo:
            guard right != 0 else { throw failure("division by zero") }
            let (quotient, overflow) = left.dividedReportingOverflow(by: right)
            if overflow { return `operator` == .modulo ? .int(0) : try whole(quotient, true) }
            let remainder = left - quotient * right
            let adjusts = remainder != 0 && (remainder < 0) != (right < 0)
            if `operator` == .modulo { return .int(adjusts ? remainder + right : remainder) }
            return .int(adjusts ? quotient - 1 : quotient)
        case .power: return try power(left, right)
        }
    }

    private func power(_ base: Int, _ exponent: Int) throws(TemplateError) -> Value {
        guard exponent >= 0 else { throw failure("negative powers are not supported") }
        if exponent == 0 || base == 1 { return .int(1) }
        if base == 0 { return .int(0) }
        if base == -1 { return .int(exponent % 2 == 0 ? 1 : -1) }
        guard exponent < 64 else { return try whole(0, true) }
        var result = 1
        for _ in 0..<exponent {
            let (product, overflow) = result.multipliedReportingOverflow(by: base)
            guard !overflow else { return try whole(0, true) }
            result = product
        }
        return .int(result)
    }

    // MARK: Comparison

    func compare(
        _ left: Value, _ operator: ComparisonOperator, _ right: Value
    ) throws(TemplateError) -> Bool {
        switch `operator` {
        case .equal: return try areEqual(left, right)
        case .notEqual: return try !areEqual(left, right)
        case .contained: return try contains(right, left)
        case .notContained: return try !contains(right, left)
        case .less, .lessOrEqual, .greater, .greaterOrEqual: break
        }
        guard let order = try order(left, right, `operator`.rawValue) else { return false }
        return switch `operator` {
        case .less: order < 0
        case .lessOrEqual: order <= 0
        case .greater: order > 0
        default: order >= 0
        }
    }

    func areEqual(_ left: Value, _ right: Value) throws(TemplateError) -> Bool {
        try step()
        if let left = Number(left), let right = Number(right) { return left == right }
        switch (left, right) {
        case (.undefined, .undefined), (.none, .none): return true
        case (.string(let left), .string(let right)): return left == right
        case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
            return left === right
                ? true : try nested { () throws(TemplateError) in try areEqual(left.elements, right.elements) }
        case (.dict(let left), .dict(let right)):
            return left === right
                ? true : try nested { () throws(TemplateError) in try areEqual(left.entries, right.entries) }
        case (.range(let left), .range(let right)):
            return left.count == right.count
                && (left.count == 0 || (left.start == right.start && (left.count == 1 || left.step == right.step)))
        case (.namespace(let left), .namespace(let right)): return left === right
        case (.generator(let left), .generator(let right)): return left === right
        case (.loop(let left), .loop(let right)): return left === right
        case (.view, .view), (.callable, .callable):
            throw failure("comparing values of type '\(left.typeName)' is not supported")
        default: return false
        }
    }

    func areEqual(_ left: [Value], _ right: [Value]) throws(TemplateError) -> Bool {
        guard left.count == right.count else { return false }
        for (left, right) in zip(left, right) {
            guard try areEqual(left, right) else { return false }
        }
        return true
    }

    private func areEqual(
        _ left: OrderedDictionary<Key, Value>, _ right: OrderedDictionary<Key, Value>
    ) throws(TemplateError) -> Bool {
        guard left.count == right.count else { return false }
        for (key, value) in left {
            guard let other = right[key], try areEqual(value, other) else { return false }
        }
        return true
    }

    /// -1, 0 or 1, or nothing with NaN.
    func order(_ left: Value, _ right: Value, _ operator: String = "<") throws(TemplateError) -> Int? {
        try step()
        try refuseUndefined(left)
        try refuseUndefined(right)
        if let left = Number(left), let right = Number(right) { return left.order(right) }
        switch (left, right) {
        case (.string(let left), .string(let right)): return left < right ? -1 : left == right ? 0 : 1
        case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
            for (left, right) in zip(left.elements, right.elements) {
                if try areEqual(left, right) { continue }
                return try nested { () throws(TemplateError) in try order(left, right, `operator`) }
            }
            let (left, right) = (left.elements.count, right.elements.count)
            return left < right ? -1 : left == right ? 0 : 1
        default:
            throw failure(
                "'\(`operator`)' is not defined for values of type '\(left.typeName)' and '\(right.typeName)'")
        }
    }

    /// `element in container`
    func contains(_ container: Value, _ element: Value) throws(TemplateError) -> Bool {
        switch container {
        case .string(let text):
            try refuseUndefined(element)
            guard case .string(let part) = element else {
                throw failure("'in' a string needs a string, not a value of type '\(element.typeName)'")
            }
            return text.firstIndex(of: part.scalars) != nil
        case .dict(let dict): return dict.entries[try makeKey(element)] != nil
        case .view(let view) where view.part == .keys: return view.dict.entries[try makeKey(element)] != nil
        case .undefined: return false
        default:
            let source = try iterator(over: container)
            while let candidate = try source.next() {
                if try areEqual(candidate, element) { return true }
            }
            return false
        }
    }
}
