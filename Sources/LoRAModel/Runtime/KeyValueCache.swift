import CKernels

/// Keys and values of `KeyValueCache.pageLength` positions in every block: (L, pageLength, 2·K·D), keys before values.
///
/// A page that is full never changes again, so that sequences which begin alike share it.
// Sendable by proof: one pass at a time writes a page that is not full, and nobody else reads it.
public final class KeyValuePage: @unchecked Sendable {
    let values: UnsafeMutablePointer<Float>
    private let memory: LargeBuffer

    init(count: Int) {
        memory = LargeBuffer(byteCount: count * MemoryLayout<Float>.stride)
        values = memory.bytes.bindMemory(to: Float.self, capacity: count)
    }
}

/// Keys and values of one sequence, in pages that are added as it grows.
// Sendable by proof: one pass at a time writes a cache, and nobody else sees it.
public final class KeyValueCache: @unchecked Sendable {
    /// Positions of a page.
    public static let pageLength = 16

    /// Positions that hold keys and values.
    public private(set) var count = 0
    /// The pages of those positions, and any that were added for positions to come.
    public private(set) var pages: [KeyValuePage] = []
    private let blockCount: Int
    /// K·D
    private let width: Int

    /// - Parameter prefix: full pages of the sequence's first positions.
    public init(configuration: ModelConfiguration, prefix: [KeyValuePage] = []) {
        blockCount = configuration.blockCount
        width = configuration.keyValueSize
        pages = prefix
        count = prefix.count * Self.pageLength
    }

    /// Bytes of one page.
    public static func pageBytes(configuration: ModelConfiguration) -> Int {
        configuration.blockCount * pageLength * 2 * configuration.keyValueSize * MemoryLayout<Float>.stride
    }

    /// Pages of `positions`.
    public static func pageCount(positions: Int) -> Int { (positions + pageLength - 1) / pageLength }

    /// Distance between rows of keys (and of values), in floats.
    var stride: Int { 2 * width }

    /// Makes room for positions up to `end`.
    func reserve(_ end: Int) {
        while pages.count * Self.pageLength < end {
            pages.append(KeyValuePage(count: blockCount * Self.pageLength * stride))
        }
    }

    func advance(by rows: Int) { count += rows }

    /// Forgets all positions from `count` on, which must lie in no page that is shared.
    public func truncate(to count: Int) {
        precondition(count <= self.count, "\(count) of \(self.count) positions")
        self.count = count
    }

    /// The row of keys, followed by that of values, at `position` of `block`.
    func row(block: Int, position: Int) -> UnsafeMutablePointer<Float> {
        pages[position / Self.pageLength].values
            + (block * Self.pageLength + position % Self.pageLength) * stride
    }

    /// Number of pages that hold positions up to `end`.
    func spanCount(upTo end: Int) -> Int { Self.pageCount(positions: end) }

    /// The keys and values of one head up to `end`, a span per page.
    func fill(_ spans: UnsafeMutableBufferPointer<lora_key_span>, block: Int, column: Int, upTo end: Int) {
        for index in 0..<spanCount(upTo: end) {
            let keys = UnsafePointer(pages[index].values + block * Self.pageLength * stride + column)
            spans[index] = lora_key_span(
                keys: keys, values: keys + width, dkeys: nil, dvalues: nil,
                count: min(Self.pageLength, end - index * Self.pageLength))
        }
    }
}
