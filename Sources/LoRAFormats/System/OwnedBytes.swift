/// Bytes on the heap, filled once and then shared; aligned to 64 for direct use by kernels.
///
/// `@unchecked Sendable`: the memory is written only by `fill` inside `init`, before anyone else can see the object.
public final class OwnedBytes: @unchecked Sendable {
    /// Valid as long as this object lives, which ends after its last use, not at the end of a scope.
    let bytes: UnsafeRawBufferPointer

    /// Allocates `count` bytes and lets `fill` set them all.
    public init(count: Int, fill: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
        // Never empty, so that there is always a base address.
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 64)
        bytes = UnsafeRawBufferPointer(rebasing: memory[..<count])
        // All properties are set, so `deinit` frees the memory when this throws.
        try fill(UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
    }

    /// A copy of `array`.
    public init(_ array: [UInt8]) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(array.count, 1), alignment: 64)
        memory.copyBytes(from: array)
        bytes = UnsafeRawBufferPointer(rebasing: memory[..<array.count])
    }

    /// The number of bytes.
    public var count: Int { bytes.count }

    /// A copy of the bytes.
    public var array: [UInt8] { withBytes { Array($0) } }

    /// Calls `body` with the bytes, which are valid until it returns.
    public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withExtendedLifetime(self) { try body(bytes) }
    }

    deinit { bytes.deallocate() }
}

/// Where a parsed file's bytes live: in a map, or on the heap.
enum ByteStorage: Sendable {
    case mapped(MappedFile)
    case owned(OwnedBytes)

    var bytes: UnsafeRawBufferPointer {
        switch self {
        case .mapped(let file): file.bytes
        case .owned(let memory): memory.bytes
        }
    }
}
