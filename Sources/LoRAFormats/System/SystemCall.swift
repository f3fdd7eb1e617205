import Glibc

/// The one way from a C result to a typed error.
package enum SystemCall {
    /// Runs `body`, which calls one C function returning -1 on failure; repeats it when a signal interrupted it.
    /// - Throws: `FormatError` with what was tried and the system's text for `errno`.
    @discardableResult
    package static func check<Value: FixedWidthInteger>(_ action: String, _ body: () -> Value) throws(FormatError)
        -> Value
    {
        while true {
            let result = body()
            if result != -1 { return result }
            let code = errno
            if code != EINTR { throw failure(action, code: code) }
        }
    }

    /// The error for `code`, a value of `errno`.
    package static func failure(_ action: String, code: Int32) -> FormatError {
        // glibc's strerror has a buffer per thread (since 2.32).
        let text = strerror(code).map { String(cString: $0) } ?? "error \(code)"
        return FormatError("\(action): \(text)")
    }
}
