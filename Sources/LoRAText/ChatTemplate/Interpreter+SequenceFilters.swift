import OrderedCollections

extension Interpreter {
    func applySequenceFilter(
        _ name: String, to value: Value, _ arguments: ArgumentValues
    ) throws(TemplateError) -> Value {
        switch name {
        case "map": return try map(value, arguments)
        case "select", "reject", "selectattr", "rejectattr": return try select(name, value, arguments)
        case "join":
            let values = try arguments.bind(["d", "attribute"], for: name, at: line)
            var texts: [Text] = []
            for element in try elements(of: value) { texts.append(try string(try picked(element, values[1]))) }
            return .string(try join(texts, try string(values[0] ?? .text(""))))
        case "sort": return try sort(value, arguments)
        case "dictsort": return try dictsort(value, arguments)
        case "unique": return try unique(value, arguments)
        case "groupby": return try groupby(value, arguments)
        case "batch", "slice": return try portions(name, value, arguments)
        default: break
        }
        _ = try arguments.bind([], for: name, at: line)
        switch name {
        case "list": return .list(try makeList(try elements(of: value)))
        case "first":
            return try iterator(over: value).next() ?? .undefined(Undefined("no first item, the sequence was empty"))
        case "last":
            return try reversedElements(of: value).first
                ?? .undefined(Undefined("no last item, the sequence was empty"))
        case "reverse":
            if case .string(let text) = value { return .string(text.reversed) }
            if case .generator = value { return .list(try makeList(try elements(of: value).reversed())) }
            return .generator(try iterator(over: .list(try makeList(try reversedElements(of: value)))))
        case "items":
            switch value {
            case .undefined: return .generator(try iterator(over: value))
            case .dict(let dict): return .generator(try iterator(over: .view(DictView(dict, .items))))
            default: throw failure("'items' needs a mapping, not a value of type '\(value.typeName)'")
            }
        default:
            guard let count = try knownCount(of: value) else {
                throw failure("a value of type '\(value.typeName)' has no length")
            }
            return .int(count)
        }
    }

    private func reversedElements(of value: Value) throws(TemplateError) -> [Value] {
        switch value {
        case .generator, .loop: throw failure("a value of type '\(value.typeName)' cannot be reversed, make it a list")
        default: return try elements(of: value).reversed()
        }
    }

    // MARK: map, select, reject

    private func map(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        guard try isTrue(value) else { return .generator(try iterator(over: .undefined(Undefined("")))) }
        let line = self.line
        let transform: (Value) throws(TemplateError) -> Value
        if arguments.positional.isEmpty, arguments.keywords.contains(where: { $0.name == "attribute" }) {
            let values = try arguments.bind(["attribute", "default"], for: "map", at: line)
            var fallback = values[1]
            if case .some(.none) = fallback { fallback = nil }
            transform = { [unowned self] element throws(TemplateError) in
                try self.picked(element, values[0], default: fallback)
            }
        } else {
            var rest = arguments
            guard !rest.positional.isEmpty else { throw failure("'map' needs a filter or an attribute") }
            let name = try text(rest.positional.removeFirst(), "filter", of: "map").string
            transform = { [unowned self] element throws(TemplateError) in try self.applyFilter(name, to: element, rest)
            }
        }
        let source = try iterator(over: value)
        return .generator(
            try own(
                Generator(over: source) { () throws(TemplateError) -> Value? in
                    guard let element = try source.next() else { return nil }
                    return try transform(element)
                }))
    }

    private func select(_ name: String, _ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        guard try isTrue(value) else { return .generator(try iterator(over: .undefined(Undefined("")))) }
        var rest = arguments
        var attribute: Value?
        if name.hasSuffix("attr") {
            guard !rest.positional.isEmpty else { throw failure("'\(name)' needs the name of an attribute") }
            attribute = rest.positional.removeFirst()
        }
        var test: String?
        if !rest.positional.isEmpty { test = try text(rest.positional.removeFirst(), "test", of: name).string }
        let wanted = name.hasPrefix("select")
        let source = try iterator(over: value)
        return .generator(
            try own(
                Generator(over: source) { [unowned self] () throws(TemplateError) -> Value? in
                    while let element = try source.next() {
                        try self.step()
                        let operand = try self.picked(element, attribute)
                        let holds =
                            if let test { try self.applyTest(test, to: operand, rest) } else {
                                try self.isTrue(operand)
                            }
                        if holds == wanted { return element }
                    }
                    return nil
                }))
    }

    // MARK: Sorting

    /// Stable, as Python's `sorted`: equal elements keep their order, in reverse too.
    private func sorted(
        _ items: [(key: Value, value: Value)], reverse: Bool
    ) throws(TemplateError) -> [(key: Value, value: Value)] {
        guard items.count > 1 else { return items }
        try charge(items.count)
        let middle = items.count / 2
        let left = try sorted(Array(items[..<middle]), reverse: reverse)
        let right = try sorted(Array(items[middle...]), reverse: reverse)
        var merged: [(key: Value, value: Value)] = []
        merged.reserveCapacity(items.count)
        var (leftIndex, rightIndex) = (0, 0)
        while leftIndex < left.count && rightIndex < right.count {
            let order = try order(right[rightIndex].key, left[leftIndex].key)
            if order == (reverse ? 1 : -1) {
                merged.append(right[rightIndex])
                rightIndex += 1
            } else {
                merged.append(left[leftIndex])
                leftIndex += 1
            }
        }
        return merged + left[leftIndex...] + right[rightIndex...]
    }

    private func sort(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["reverse", "case_sensitive", "attribute"], for: "sort", at: line)
        let caseSensitive = try flag(values[1])
        var attributes: [Value?] = [values[2]]
        if case .string(let path)? = values[2] {
            attributes = path.string.split(separator: ",", omittingEmptySubsequences: false).map { .text(String($0)) }
        }
        var items: [(key: Value, value: Value)] = []
        for element in try elements(of: value) {
            var keys: [Value] = []
            for attribute in attributes {
                keys.append(try sortKey(try picked(element, attribute), caseSensitive: caseSensitive))
            }
            items.append((.list(try makeList(keys)), element))
        }
        return .list(try makeList(try sorted(items, reverse: try flag(values[0])).map(\.value)))
    }

    private func dictsort(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["case_sensitive", "by", "reverse"], for: "dictsort", at: line)
        guard case .dict(let dict) = value else {
            try refuseUndefined(value)
            throw failure("'dictsort' needs a mapping, not a value of type '\(value.typeName)'")
        }
        let by = try optionalText(values[1], "by", of: "dictsort")?.string ?? "key"
        guard by == "key" || by == "value" else { throw failure("'by' of 'dictsort' must be 'key' or 'value'") }
        let caseSensitive = try flag(values[0])
        var items: [(key: Value, value: Value)] = []
        for (key, value) in dict.entries {
            let pair = Value.tuple(try makeList([key.value, value]))
            items.append((try sortKey(by == "key" ? key.value : value, caseSensitive: caseSensitive), pair))
        }
        return .list(try makeList(try sorted(items, reverse: try flag(values[2])).map(\.value)))
    }

    private func unique(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["case_sensitive", "attribute"], for: "unique", at: line)
        let caseSensitive = try flag(values[0])
        let source = try iterator(over: value)
        var seen: Set<Key> = []
        return .generator(
            try own(
                Generator(over: source) { [unowned self] () throws(TemplateError) -> Value? in
                    while let element = try source.next() {
                        try self.step()
                        let picked = try self.picked(element, values[1])
                        let key = try self.makeKey(try self.sortKey(picked, caseSensitive: caseSensitive))
                        try self.charge(2)
                        if seen.insert(key).inserted { return element }
                    }
                    return nil
                }))
    }

    private func groupby(_ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["attribute", "default", "case_sensitive"], for: "groupby", at: line)
        guard let attribute = values[0] else { throw failure("'groupby' needs an attribute") }
        var fallback = values[1]
        if case .some(.none) = fallback { fallback = nil }
        let caseSensitive = try flag(values[2])
        var items: [(key: Value, value: Value)] = []
        for element in try elements(of: value) {
            let key = try picked(element, attribute, default: fallback)
            items.append((try sortKey(key, caseSensitive: caseSensitive), element))
        }
        var groups: [(key: Value, members: [Value])] = []
        for (key, value) in try sorted(items, reverse: false) {
            if let last = groups.last, try areEqual(last.key, key) {
                groups[groups.count - 1].members.append(value)
            } else {
                groups.append((key, [value]))
            }
        }
        var pairs: [Value] = []
        for group in groups {
            let key = try picked(group.members[0], attribute, default: fallback)
            pairs.append(.tuple(try makeList([key, .list(try makeList(group.members))], isGroup: true)))
        }
        return .list(try makeList(pairs))
    }

    // MARK: Portions

    private func portions(_ name: String, _ value: Value, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        let values = try arguments.bind(["count", "fill_with"], for: name, at: line)
        let size = try integer(values[0], nil, "count", of: name)
        guard size > 0 else { throw failure("'\(name)' needs a positive count") }
        try charge(size)
        var fill = values[1]
        if case .some(.none) = fill { fill = nil }
        let elements = try elements(of: value)
        var portions: [[Value]] = []
        if name == "batch" {
            for start in stride(from: 0, to: elements.count, by: size) {
                portions.append(Array(elements[start..<min(start + size, elements.count)]))
            }
            if let fill, let last = portions.indices.last {
                portions[last] += Array(repeating: fill, count: size - portions[last].count)
            }
        } else {
            let (length, extra) = elements.count.quotientAndRemainder(dividingBy: size)
            var start = 0
            for index in 0..<size {
                let end = start + length + (index < extra ? 1 : 0)
                portions.append(Array(elements[start..<end]))
                if let fill, index >= extra { portions[index].append(fill) }
                start = end
            }
        }
        var lists: [Value] = []
        for portion in portions { lists.append(.list(try makeList(portion))) }
        return .generator(try iterator(over: .list(try makeList(lists))))
    }
}
