import CKernels

/// Keys and values of `KeyValueCache.pageLength` positions, those of a head in a block side by side: in f32
/// (L, K, 2, pageLength, D), keys before values, and where passes multiply bf16 (L, K) times `lora_attention_pages_bf16`'s
/// order.
///
/// A page that is full never changes again, so that sequences which begin alike share it.
// Sendable by proof: one pass at a time writes a page that is not full, and nobody else reads it.
public final class KeyValuePage: @unchecked Sendable {
    let isInHalves: Bool
    private let memory: LargeBuffer

    init(count: Int, inHalves: Bool) {
        isInHalves = inHalves
        // Kernels may read a vector beyond.
        memory = LargeBuffer(byteCount: count * KeyValueCache.bytes(inHalves: inHalves) + 64)
    }

    func elements<Element: BitwiseCopyable>(_ type: Element.Type) -> UnsafeMutablePointer<Element> {
        memory.bytes.assumingMemoryBound(to: type)
    }
}

/// Keys and values of one sequence, in pages that are added as it grows.
// Sendable by proof: one pass at a time writes a cache, and nobody else sees it.
public final class KeyValueCache: @unchecked Sendable {
    /// Positions of a page.
    public static let pageLength = Int(LORA_PAGE_LENGTH)

    /// Positions that hold keys and values.
    public private(set) var count = 0
    /// The pages of those positions, and any that were added for positions to come.
    public private(set) var pages: [KeyValuePage] = []
    private let blockCount: Int
    private let headCount: Int  // K
    private let headSize: Int  // D

    /// - Parameter prefix: full pages of the sequence's first positions.
    public init(configuration: ModelConfiguration, prefix: [KeyValuePage] = []) {
        blockCount = configuration.blockCount
        headCount = configuration.keyValueHeadCount
        headSize = configuration.headSize
        pages = prefix
        count = prefix.count * Self.pageLength
    }

    /// Bytes of one page of a pass.
    public static func pageBytes(configuration: ModelConfiguration, compute: Compute) -> Int {
        configuration.blockCount * pageLength * 2 * configuration.keyValueSize
            * bytes(inHalves: MatrixProduct.multipliesHalves(compute))
    }

    /// Of an element.
    fileprivate static func bytes(inHalves: Bool) -> Int { inHalves ? 2 : 4 }

    /// Pages of `positions`.
    public static func pageCount(positions: Int) -> Int { (positions + pageLength - 1) / pageLength }

    /// Makes room for positions up to `end`, which all have the same elements.
    func reserve(_ end: Int, inHalves: Bool) {
        precondition(pages.first.map { $0.isInHalves == inHalves } ?? true, "a cache of another element type")
        while pages.count * Self.pageLength < end {
            pages.append(
                KeyValuePage(count: blockCount * 2 * headCount * Self.pageLength * headSize, inHalves: inHalves))
        }
    }

    func advance(by rows: Int) { count += rows }

    /// Forgets all positions from `count` on, which must lie in no page that is shared.
    public func truncate(to count: Int) {
        precondition(count <= self.count, "\(count) of \(self.count) positions")
        self.count = count
    }

    /// Writes the keys and values (K·D each) of `position`.
    func write(_ keys: UnsafePointer<Float>, _ values: UnsafePointer<Float>, block: Int, position: Int) {
        let (page, row) = (pages[position / Self.pageLength], position % Self.pageLength)
        for head in 0..<headCount {
            let key = page.elements(Float.self) + place(block: block, head: head) + row * headSize
            key.update(from: keys + head * headSize, count: headSize)
            (key + Self.pageLength * headSize).update(from: values + head * headSize, count: headSize)
        }
    }

    /// The same in bf16.
    func write(_ keys: UnsafePointer<UInt16>, _ values: UnsafePointer<UInt16>, block: Int, position: Int) {
        let (page, row) = (pages[position / Self.pageLength], position % Self.pageLength)
        for head in 0..<headCount {
            lora_page_write_bf16(
                page.elements(UInt16.self) + place(block: block, head: head), row, keys + head * headSize,
                values + head * headSize, headSize)
        }
    }

    /// Where a page holds a head.
    private func place(block: Int, head: Int) -> Int {
        (block * headCount + head) * 2 * Self.pageLength * headSize
    }

    /// Number of pages that hold positions up to `end`.
    func spanCount(upTo end: Int) -> Int { Self.pageCount(positions: end) }

    /// The keys and values of one head up to `end`, a span per page.
    func fill(_ spans: UnsafeMutableBufferPointer<lora_key_span>, block: Int, head: Int, upTo end: Int) {
        for index in 0..<spanCount(upTo: end) {
            let keys = UnsafePointer(pages[index].elements(Float.self) + place(block: block, head: head))
            spans[index] = lora_key_span(
                keys: keys, values: keys + Self.pageLength * headSize, dkeys: nil, dvalues: nil,
                count: min(Self.pageLength, end - index * Self.pageLength))
        }
    }

    /// Where each page holds the head in bf16, up to `end`.
    func fill(_ places: UnsafeMutableBufferPointer<UnsafePointer<UInt16>>, block: Int, head: Int, upTo end: Int) {
        for index in 0..<spanCount(upTo: end) {
            places[index] = UnsafePointer(pages[index].elements(UInt16.self) + place(block: block, head: head))
        }
    }
}
