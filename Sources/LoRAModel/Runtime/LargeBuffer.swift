import Foundation

/// Bytes that the system has back as soon as they are freed; aligned to 64, unset.
///
/// Once it has freed a large block, glibc's `malloc` takes blocks of up to 32 MiB from the heap of the thread that asks
/// (M_MMAP_THRESHOLD in mallopt(3)). What comes and goes by megabytes while small objects stay would leave holes there, and
/// a server would grow for a long time. So such blocks are mapped.
struct LargeBuffer: ~Copyable {
    let bytes: UnsafeMutableRawPointer
    private let count: Int

    /// Smaller ones come from the heap: a process may have some 65,000 maps (vm.max_map_count).
    private static let fewestMappedBytes = 1 << 17

    init(byteCount: Int) {
        count = byteCount
        guard byteCount >= Self.fewestMappedBytes else {
            bytes = .allocate(byteCount: max(byteCount, 1), alignment: 64)
            return
        }
        let map = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let map, map != MAP_FAILED else {
            preconditionFailure("no memory for \(byteCount) bytes: \(String(cString: strerror(errno)))")
        }
        bytes = map
    }

    deinit {
        if count >= Self.fewestMappedBytes { munmap(bytes, count) } else { bytes.deallocate() }
    }
}
