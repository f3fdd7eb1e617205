import CPCRE2
import LoRAFormats

/// A compiled regular expression over UTF-8 that matches only where it is asked to (PCRE2, anchored, UTF and UCP).
///
/// Unchecked Sendable: `code` is written once, by `init`, before anyone else can see it. PCRE2 documents compiled
/// patterns, also after JIT compilation, as read-only during matching and safe to share between threads; what
/// matching writes lives in each thread's own `Matcher`.
final class Pattern: @unchecked Sendable {
    fileprivate let code: OpaquePointer

    /// - Throws: `FormatError` with PCRE2's message and the offset in the pattern.
    init(_ source: String) throws(FormatError) {
        var status: Int32 = 0
        var offset = 0
        let options = PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED
        var source = source
        let compiled = source.withUTF8 { bytes in
            pcre2_compile_8(bytes.baseAddress, bytes.count, options, &status, &offset, nil)
        }
        guard let compiled else {
            throw FormatError(
                "PCRE2 refuses a pre-tokenizer's pattern at offset \(offset): \(Self.message(status)); "
                    + "this needs PCRE2 10.30 or later, built with Unicode")
        }
        code = compiled
        // A system without JIT (or without executable memory) is slower but gives the same matches.
        _ = pcre2_jit_compile_8(compiled, PCRE2_JIT_COMPLETE)
    }

    deinit { pcre2_code_free_8(code) }

    static func message(_ status: Int32) -> String {
        var buffer = [UInt8](repeating: 0, count: 256)
        let length = pcre2_get_error_message_8(status, &buffer, buffer.count)
        return length < 0 ? "error \(status)" : String(decoding: buffer.prefix(Int(length)), as: UTF8.self)
    }
}

/// What one thread needs to match a `Pattern`.
struct Matcher: ~Copyable {
    /// Steps before PCRE2 gives up. The patterns here are linear, so this is out of reach for honest text.
    private static let stepLimit: UInt32 = 100_000_000

    private let pattern: Pattern
    private let data: OpaquePointer?
    private let context: OpaquePointer?

    init(_ pattern: Pattern) {
        self.pattern = pattern
        data = pcre2_match_data_create_8(1, nil)
        context = pcre2_match_context_create_8(nil)
        if let context { _ = pcre2_set_match_limit_8(context, Self.stepLimit) }
    }

    deinit {
        pcre2_match_data_free_8(data)
        pcre2_match_context_free_8(context)
    }

    /// Where the match at `start` ends. `text` must be valid UTF-8 and `start` on a character's border.
    ///
    /// When nothing matches, or PCRE2 gives up (no memory, a limit), the rest of `text` is one word: no byte is lost.
    func endOfMatch(in text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        guard let data else { return text.count }
        var status = pcre2_match_8(pattern.code, text.baseAddress, text.count, start, PCRE2_NO_UTF_CHECK, data, context)
        if status == PCRE2_ERROR_JIT_STACKLIMIT {
            let options = PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT
            status = pcre2_match_8(pattern.code, text.baseAddress, text.count, start, options, data, context)
        }
        guard status >= 0, let offsets = pcre2_get_ovector_pointer_8(data) else { return text.count }
        let end = Int(offsets[1])
        return end > start ? end : text.count
    }
}
