import CKernels

/// Keys and values of one sequence, in pages that are added as it grows.
///
/// A page holds, for every block, `pageLength` positions of keys and then values: (L, pageLength, 2·K·D).
// Sendable by proof: one pass at a time writes a cache, and nobody else sees it.
public final class KeyValueCache: @unchecked Sendable {
    static let pageLength = 64

    /// Positions that hold keys and values.
    public private(set) var count = 0
    private let blockCount: Int
    /// K·D
    private let width: Int
    private var pages: [UnsafeMutablePointer<Float>] = []

    public init(configuration: ModelConfiguration) {
        blockCount = configuration.blockCount
        width = configuration.keyValueSize
    }

    deinit { for page in pages { page.deallocate() } }

    /// Distance between rows of keys (and of values), in floats.
    var stride: Int { 2 * width }

    /// Makes room for positions up to `end`.
    func reserve(_ end: Int) {
        while pages.count * Self.pageLength < end {
            pages.append(.allocate(capacity: blockCount * Self.pageLength * stride))
        }
    }

    func advance(by rows: Int) { count += rows }

    /// Forgets all positions from `count` on.
    public func truncate(to count: Int) {
        precondition(count <= self.count, "\(count) of \(self.count) positions")
        self.count = count
    }

    /// The row of keys, followed by that of values, at `position` of `block`.
    func row(block: Int, position: Int) -> UnsafeMutablePointer<Float> {
        pages[position / Self.pageLength] + (block * Self.pageLength + position % Self.pageLength) * stride
    }

    /// Number of pages that hold positions up to `end`.
    func spanCount(upTo end: Int) -> Int { (end + Self.pageLength - 1) / Self.pageLength }

    /// The keys and values of one head up to `end`, a span per page.
    func fill(_ spans: UnsafeMutableBufferPointer<lora_key_span>, block: Int, column: Int, upTo end: Int) {
        for index in 0..<spanCount(upTo: end) {
            let keys = UnsafePointer(pages[index] + block * Self.pageLength * stride + column)
            spans[index] = lora_key_span(
                keys: keys, values: keys + width, dkeys: nil, dvalues: nil,
                count: min(Self.pageLength, end - index * Self.pageLength))
        }
    }
}
