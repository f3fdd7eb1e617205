#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif
import OrderedCollections

extension Interpreter {
    static let globals: Set<String> = [
        "cycler", "dict", "joiner", "namespace", "raise_exception", "range", "strftime_now",
    ]

    func callGlobal(_ name: String, _ arguments: ArgumentValues) throws(TemplateError) -> Value {
        switch name {
        case "range": return .range(try range(arguments))
        case "namespace":
            let entries = try entries(from: arguments, for: name)
            for key in entries.keys { _ = try namespaceKey(key.value) }
            return .namespace(try own(Namespace(entries)))
        case "dict": return .dict(try makeDict(try entries(from: arguments, for: name)))
        case "cycler":
            guard arguments.keywords.isEmpty, !arguments.positional.isEmpty else {
                throw failure("'cycler' needs at least one value and no named arguments")
            }
            return .callable(Callable(.cycler(try own(Cycler(arguments.positional)))))
        case "joiner":
            let separator = try arguments.bind(["sep"], for: name, at: line)[0]
            return .callable(Callable(.joiner(Joiner(try optionalText(separator, "sep", of: name) ?? Text(", ")))))
        case "raise_exception":
            let message = try arguments.bind(["message"], for: name, at: line)[0]
            guard let message else { throw failure("'raise_exception' needs a message") }
            throw failure(try string(message).string)
        default:
            let format = try arguments.bind(["format"], for: name, at: line)[0]
            return .string(try time(format: try text(format, "format", of: name)))
        }
    }

    func namespaceKey(_ name: Value) throws(TemplateError) -> Key {
        if case .string(let text) = name, text.scalars.first == "_" {
            throw failure("a namespace cannot store '\(text.string)': its attributes must not begin with '_'")
        }
        return try makeKey(name)
    }

    private func range(_ arguments: ArgumentValues) throws(TemplateError) -> RangeValue {
        guard arguments.keywords.isEmpty else { throw failure("'range' takes no named arguments") }
        let values = try arguments.bind(["start", "stop", "step"], for: "range", at: line)
        let first = try integer(values[0], nil, "start", of: "range")
        let start = values[1] == nil ? 0 : first
        let stop = try integer(values[1], first, "stop", of: "range")
        let step = try integer(values[2], 1, "step", of: "range")
        guard step != 0 else { throw failure("the step of 'range' cannot be zero") }
        let (distance, overflow) =
            step > 0 ? stop.subtractingReportingOverflow(start) : start.subtractingReportingOverflow(stop)
        if distance <= 0 && !overflow { return RangeValue(start: start, stop: stop, step: step, count: 0) }
        guard !overflow, (UInt(distance) - 1) / step.magnitude < UInt(TemplateLimit.range) else {
            throw failure("the range has more than \(TemplateLimit.range) elements")
        }
        return RangeValue(start: start, stop: stop, step: step, count: Int((UInt(distance) - 1) / step.magnitude) + 1)
    }

    /// What `dict(…)` takes: a mapping or pairs, and named arguments.
    private func entries(
        from arguments: ArgumentValues, for name: String
    ) throws(TemplateError) -> OrderedDictionary<Key, Value> {
        guard arguments.positional.count <= 1 else { throw failure("'\(name)' takes at most one positional argument") }
        var entries: OrderedDictionary<Key, Value> = [:]
        switch arguments.positional.first {
        case nil: break
        case .dict(let dict)?: entries = dict.entries
        case let pairs?:
            for pair in try elements(of: pairs) {
                let pair = try elements(of: pair)
                guard pair.count == 2 else { throw failure("'\(name)' needs a mapping or pairs") }
                entries[try makeKey(pair[0])] = pair[1]
            }
        }
        for (name, value) in arguments.keywords { entries[Key(Text(name))] = value }
        try charge(entries.count)
        return entries
    }

    /// `datetime.now().strftime(format)`, in local time; a time without zone has no text for `%z` and `%Z`.
    private func time(format: Text) throws(TemplateError) -> Text {
        guard format.count <= 1024 else { throw failure("the format of 'strftime_now' is longer than 1024 characters") }
        var safe: [Unicode.Scalar] = []
        var index = 0
        while index < format.count {
            let next = index + 1 < format.count ? format.scalars[index + 1] : nil
            if format.scalars[index] == "%", let next {
                switch next {
                case "z", "Z": break
                case "f": throw failure("'%f' of 'strftime_now' is not supported")
                default: safe.append(contentsOf: ["%", next])
                }
                index += 2
            } else {
                safe.append(format.scalars[index])
                index += 1
            }
        }
        var seconds = time_t(now)
        var parts = tm()
        guard localtime_r(&seconds, &parts) != nil else { throw failure("the time of day is not known") }
        if safe.isEmpty { return Text("") }
        var buffer = [CChar](repeating: 0, count: 64 * 1024)
        let count = strftime(&buffer, buffer.count, Text(safe).string, &parts)
        return Text(String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    /// `value` with a fixed number of decimals, the digits of its exact value rounded half to even.
    func fixed(_ value: Double, decimals: Int) -> String {
        var buffer = [CChar](repeating: 0, count: 400 + decimals)
        let count = withVaList([Int32(decimals), value]) { vsnprintf(&buffer, buffer.count, "%.*f", $0) }
        return String(decoding: buffer[..<Int(max(0, count))].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
