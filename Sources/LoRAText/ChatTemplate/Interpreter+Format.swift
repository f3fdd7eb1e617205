extension Interpreter {
    /// One conversion of a `%` format.
    private struct Conversion {
        var isLeft = false
        var isZeroPadded = false
        var sign = ""
        var width = 0
        var precision: Int?
    }

    /// `format % values`: `%s`, `%r`, `%d`, `%i`, `%u`, `%x`, `%X`, `%o` and `%f`, with the flags
    /// `-`, `0`, `+` and space, width and precision.
    func printf(_ format: Text, _ values: Value) throws(TemplateError) -> Value {
        guard !format.isMarkup else { throw failure("'%' is not supported on HTML-safe text") }
        var arguments: [Value] = [values]
        if case .tuple(let tuple) = values { arguments = tuple.elements }
        var result: [Unicode.Scalar] = []
        var (position, used) = (0, 0)
        let scalars = format.scalars
        while position < scalars.count {
            let scalar = scalars[position]
            position += 1
            guard scalar == "%" else {
                result.append(scalar)
                continue
            }
            if position < scalars.count, scalars[position] == "%" {
                position += 1
                result.append("%")
                continue
            }
            let conversion = try readConversion(scalars, &position)
            guard position < scalars.count else { throw failure("a '%' format is incomplete") }
            guard used < arguments.count else { throw failure("a '%' format has more conversions than values") }
            let part = try convert(arguments[used], conversion, scalars[position])
            try charge(part.count)
            result.append(contentsOf: part)
            used += 1
            position += 1
        }
        var isMapping = false
        if case .dict = values { isMapping = true }
        guard used == arguments.count || (used == 0 && isMapping) else {
            throw failure("a '%' format has fewer conversions than values")
        }
        return .string(Text(result))
    }

    private func readConversion(_ scalars: [Unicode.Scalar], _ position: inout Int) throws(TemplateError) -> Conversion
    {
        var conversion = Conversion()
        flags: while position < scalars.count {
            switch scalars[position] {
            case "-": conversion.isLeft = true
            case "0": conversion.isZeroPadded = true
            case "+": conversion.sign = "+"
            case " ": conversion.sign = conversion.sign.isEmpty ? " " : conversion.sign
            default: break flags
            }
            position += 1
        }
        func number() throws(TemplateError) -> Int {
            var value = 0
            while position < scalars.count, let digit = Int(String(scalars[position])) {
                value = value * 10 + digit
                guard value <= 100_000 else { throw failure("the width of a '%' format is above 100000") }
                position += 1
            }
            return value
        }
        conversion.width = try number()
        if position < scalars.count, scalars[position] == "." {
            position += 1
            conversion.precision = try number()
        }
        return conversion
    }

    private func convert(
        _ value: Value, _ conversion: Conversion, _ type: Unicode.Scalar
    ) throws(TemplateError) -> [Unicode.Scalar] {
        switch type {
        case "s", "r":
            var text = type == "s" ? try string(value).scalars : try representation(of: value).scalars
            if let precision = conversion.precision { text = Array(text.prefix(precision)) }
            return padded([], text, conversion, withZeros: false)
        case "d", "i", "u", "x", "X", "o":
            let isDecimal = type == "d" || type == "i" || type == "u"
            let int: Int
            switch Number(value) {
            case .int(let whole)?: int = whole
            case .float(let float)? where isDecimal && float.magnitude < 0x1p53: int = Int(float.rounded(.towardZero))
            default:
                try refuseUndefined(value)
                throw failure("'%\(type)' needs an integer, not a value of type '\(value.typeName)'")
            }
            let radix = isDecimal ? 10 : type == "o" ? 8 : 16
            var digits = String(int.magnitude, radix: radix, uppercase: type == "X")
            if let precision = conversion.precision, precision > digits.count {
                digits = String(repeating: "0", count: precision - digits.count) + digits
            }
            return padded(sign(int < 0, conversion), Array(digits.unicodeScalars), conversion, withZeros: true)
        case "f", "F":
            guard let number = Number(value), number.double.isFinite else {
                try refuseUndefined(value)
                throw failure("'%f' needs a finite number, not a value of type '\(value.typeName)'")
            }
            let digits = fixed(number.double.magnitude, decimals: min(conversion.precision ?? 6, 1000))
            let isNegative = number.double.sign == .minus
            return padded(sign(isNegative, conversion), Array(digits.unicodeScalars), conversion, withZeros: true)
        default: throw failure("the conversion '%\(type)' is not supported")
        }
    }

    private func sign(_ isNegative: Bool, _ conversion: Conversion) -> [Unicode.Scalar] {
        Array((isNegative ? "-" : conversion.sign).unicodeScalars)
    }

    private func padded(
        _ sign: [Unicode.Scalar], _ text: [Unicode.Scalar], _ conversion: Conversion, withZeros: Bool
    ) -> [Unicode.Scalar] {
        let missing = max(0, conversion.width - sign.count - text.count)
        func padding(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] { Array(repeating: scalar, count: missing) }
        if conversion.isLeft { return sign + text + padding(" ") }
        return withZeros && conversion.isZeroPadded ? sign + padding("0") + text : padding(" ") + sign + text
    }

    /// `format.format(…)` with fields `{}`, `{0}`, `{name}`, without attributes, conversions or format specifications.
    func format(_ format: Text, _ arguments: ArgumentValues) throws(TemplateError) -> Text {
        var result: [Unicode.Scalar] = []
        var (position, automatic) = (0, 0)
        var isNumbered = false
        let scalars = format.scalars
        while position < scalars.count {
            let scalar = scalars[position]
            position += 1
            guard scalar == "{" || scalar == "}" else {
                result.append(scalar)
                continue
            }
            if position < scalars.count, scalars[position] == scalar {
                result.append(scalar)
                position += 1
                continue
            }
            guard scalar == "{", let end = scalars[position...].firstIndex(of: "}") else {
                throw failure("a format string has a single '\(scalar)'")
            }
            let field = Text(scalars[position..<end])
            position = end + 1
            let value: Value
            if field.isEmpty || Int(field.string) != nil {
                guard automatic == 0 || field.isEmpty, !isNumbered || !field.isEmpty else {
                    throw failure("a format string mixes numbered and automatic fields")
                }
                isNumbered = !field.isEmpty
                let index = Int(field.string) ?? automatic
                if field.isEmpty { automatic += 1 }
                guard arguments.positional.indices.contains(index) else {
                    throw failure("a format string has more fields than there are values")
                }
                value = arguments.positional[index]
            } else {
                guard field.scalars.allSatisfy({ $0 == "_" || $0.isPythonAlphanumeric }) else {
                    throw failure("the format field '{\(field.string)}' is not supported")
                }
                guard let named = arguments.keywords.first(where: { $0.name == field.string }) else {
                    throw failure("the format field '{\(field.string)}' has no value")
                }
                value = named.value
            }
            let part = try string(value)
            try charge(part.count)
            result.append(contentsOf: part.scalars)
        }
        return Text(result)
    }
}
