/// A matrix in the element type and the order that the matrix engine reads, made anew for each use from the stored
/// blocks: a quantised base is never expanded as a whole.
struct ExpandedMatrix {
    /// What it is multiplied with.
    enum Direction {
        /// x · Wᵀ: an output for each row of W, a term of the sum for each column.
        case forward
        /// dy · W: an output for each column, a term for each row.
        case backward
    }

    /// Element (term, output) is where `order` says.
    let bytes: UnsafeRawPointer
    let direction: Direction
    /// Rows and columns of W.
    let rows: Int
    let columns: Int
    let order: OneDNNProduct.Order

    var outputs: Int { direction == .forward ? rows : columns }
    var terms: Int { direction == .forward ? columns : rows }

    /// Outputs of a packed block, at most.
    private static let mostOutputs = 64

    /// Terms are padded to this.
    static func termMultiple(_ compute: Compute) -> Int { compute == .bf16 ? 32 : 16 }

    /// Bytes that a matrix takes, whatever the direction.
    static func size(rows: Int, columns: Int, compute: Compute) -> Int {
        padded(rows, mostOutputs) * padded(columns, mostOutputs) * compute.bytes
    }

    static func padded(_ count: Int, _ multiple: Int) -> Int { (count + multiple - 1) / multiple * multiple }
}

/// Memory for one expanded matrix at a time.
struct ExpansionBuffer {
    let bytes: UnsafeMutableRawPointer

    init(arena: Arena, rows: Int, columns: Int, compute: Compute) {
        let size = ExpandedMatrix.size(rows: rows, columns: columns, compute: compute)
        bytes = UnsafeMutableRawPointer(arena.allocate(size, of: UInt8.self))
    }

    static func size(rows: Int, columns: Int, compute: Compute) -> Int {
        Arena.size(
            of: UInt8.self, count: ExpandedMatrix.size(rows: rows, columns: columns, compute: compute))
    }
}

/// Memory for the matrices of one block, expanded in one direction.
struct BlockExpansions {
    let queryKeyValue: ExpansionBuffer
    let attentionOutput: ExpansionBuffer
    let gateUp: ExpansionBuffer
    let down: ExpansionBuffer

    init(arena: Arena, configuration: ModelConfiguration, compute: Compute) {
        let (start, shapes) = (arena.used, configuration.matrixShapes)
        let buffer = { (shape: (rows: Int, columns: Int)) in
            ExpansionBuffer(arena: arena, rows: shape.rows, columns: shape.columns, compute: compute)
        }
        queryKeyValue = buffer(shapes.queryKeyValue)
        attentionOutput = buffer(shapes.attentionOutput)
        gateUp = buffer(shapes.gateUp)
        down = buffer(shapes.down)
        arena.preferLargePages(since: start)
    }

    static func size(configuration: ModelConfiguration, compute: Compute) -> Int {
        configuration.matrixShapes.all.reduce(0) {
            $0 + ExpansionBuffer.size(rows: $1.rows, columns: $1.columns, compute: compute)
        }
    }
}
