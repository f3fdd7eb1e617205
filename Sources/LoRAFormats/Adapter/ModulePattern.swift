import CPCRE2

/// A regular expression over names of modules, as PEFT's configurations hold them (PCRE2, whose syntax covers what
/// Python's `re` patterns of this kind use).
///
/// A pattern comes from a file that nobody vouches for: matching gives up after a number of steps.
final class ModulePattern {
    /// Honest patterns take some hundred steps for a name.
    private static let stepLimit: UInt32 = 100_000
    private static let longest = 1 << 16

    private let code: OpaquePointer
    private let data: OpaquePointer?
    private let context: OpaquePointer?

    /// - Throws: `FormatError` for a text that is no regular expression.
    init(_ text: String) throws(FormatError) {
        guard text.utf8.count <= Self.longest else {
            throw FormatError("the pattern \(FormatError.quoted(text)) has more than \(Self.longest) bytes")
        }
        var (status, offset, text) = (Int32(0), 0, text)
        let compiled = text.withUTF8 { bytes in
            pcre2_compile_8(bytes.baseAddress, bytes.count, PCRE2_UTF, &status, &offset, nil)
        }
        guard let compiled else {
            throw FormatError(
                "\(FormatError.quoted(text)) is no regular expression that can be used here (see byte \(offset))")
        }
        code = compiled
        data = pcre2_match_data_create_8(1, nil)
        context = pcre2_match_context_create_8(nil)
        if let context { _ = pcre2_set_match_limit_8(context, Self.stepLimit) }
    }

    deinit {
        pcre2_code_free_8(code)
        pcre2_match_data_free_8(data)
        pcre2_match_context_free_8(context)
    }

    /// Whether the whole `name` matches; not when the step limit comes first.
    func matches(_ name: String) -> Bool { match(name, options: PCRE2_ANCHORED | PCRE2_ENDANCHORED) }

    /// Whether the beginning of `name` matches; not when the step limit comes first.
    func matchesBeginning(of name: String) -> Bool { match(name, options: PCRE2_ANCHORED) }

    private func match(_ name: String, options: UInt32) -> Bool {
        guard let data else { return false }
        var name = name
        return name.withUTF8 { bytes in
            pcre2_match_8(code, bytes.baseAddress, bytes.count, 0, options, data, context) >= 0
        }
    }
}
