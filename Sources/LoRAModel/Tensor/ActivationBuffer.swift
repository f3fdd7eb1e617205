import CKernels

/// Activations of one kind: f32 for the kernels, and the element type of matrix products beside it.
///
/// With f32 products both are the same memory. With bf16 products the f32 side is scratch shared by all slots and a
/// slot keeps bf16: `seal` rounds what a layer wrote, `open` brings it back.
struct ActivationBuffer {
    /// Elements of a row.
    let width: Int
    private let rows: Int
    private let floats: UnsafeMutablePointer<Float>
    private let sealed: UnsafeMutablePointer<UInt16>?

    init(arena: Arena, compute: Compute, rows: Int, width: Int, slots: Int = 1) {
        self.width = width
        self.rows = rows
        floats = arena.allocate(rows * width * (compute == .f32 ? slots : 1))
        sealed = compute == .bf16 ? arena.allocate(rows * width * slots) : nil
    }

    static func size(compute: Compute, rows: Int, width: Int, slots: Int = 1) -> Int {
        switch compute {
        case .f32: Arena.size(of: Float.self, count: rows * width * slots)
        case .bf16:
            Arena.size(of: Float.self, count: rows * width) + Arena.size(of: UInt16.self, count: rows * width * slots)
        }
    }

    /// (rows, width) in f32, from `row` on: valid for the slot last written or opened.
    func values(_ slot: Int = 0, row: Int = 0) -> UnsafeMutablePointer<Float> {
        floats + ((sealed == nil ? slot * rows : 0) + row) * width
    }

    /// (rows, width) in the element type of products, from `row` on: valid for what was sealed.
    func operand(_ slot: Int = 0, row: Int = 0) -> UnsafeRawPointer {
        guard let sealed else { return UnsafeRawPointer(values(slot, row: row)) }
        return UnsafeRawPointer(sealed + (slot * rows + row) * width)
    }

    /// Rows of a slot from `row` on, in both types.
    func view(_ slot: Int = 0, row: Int = 0) -> ActivationRows {
        ActivationRows(values: values(slot, row: row), operand: operand(slot, row: row), stride: width)
    }

    /// The sealed slot from `row` on, where products take bf16.
    func halves(_ slot: Int = 0, row: Int = 0) -> UnsafeMutablePointer<UInt16> {
        guard let sealed else { preconditionFailure("f32 activations hold no bf16") }
        return sealed + (slot * rows + row) * width
    }

    /// Rounds rows of `values` into the slot.
    func seal(_ slot: Int = 0, rows range: Range<Int>) {
        guard let sealed else { return }
        let at = range.lowerBound * width
        lora_f32_to_bf16(sealed + slot * rows * width + at, floats + at, range.count * width)
    }

    /// Rounds one row of the first slot from `values` (width).
    func seal(row: Int, _ values: UnsafePointer<Float>) {
        guard let sealed else { return }
        lora_f32_to_bf16(sealed + row * width, values, width)
    }

    /// Brings rows of the slot back into `values`.
    func open(_ slot: Int = 0, rows range: Range<Int>) {
        guard let sealed else { return }
        let at = range.lowerBound * width
        lora_bf16_to_f32(floats + at, sealed + slot * rows * width + at, range.count * width)
    }
}

/// Rows of activations where some columns begin.
struct ActivationRows {
    let values: UnsafeMutablePointer<Float>
    /// The same in the element type of products.
    let operand: UnsafeRawPointer
    /// Elements between rows.
    let stride: Int

    /// From `column` on.
    func columns(from column: Int, _ compute: Compute) -> ActivationRows {
        ActivationRows(values: values + column, operand: operand + column * compute.bytes, stride: stride)
    }
}

/// Activations that wait for the way back, a slot per block, in the element type of products. They are made and used a
/// few rows at a time in a thread's own memory.
struct TapeBuffer {
    /// Elements of a row.
    let width: Int
    private let rows: Int
    private let floats: UnsafeMutablePointer<Float>?
    private let halves: UnsafeMutablePointer<UInt16>?

    /// - Parameter slots: 0 when nothing is kept.
    init(arena: Arena, compute: Compute, rows: Int, width: Int, slots: Int) {
        self.width = width
        self.rows = rows
        floats = compute == .f32 && slots > 0 ? arena.allocate(rows * width * slots) : nil
        halves = compute == .bf16 && slots > 0 ? arena.allocate(rows * width * slots) : nil
    }

    static func size(compute: Compute, rows: Int, width: Int, slots: Int) -> Int {
        guard slots > 0 else { return 0 }
        let count = rows * width * slots
        return compute == .f32
            ? Arena.size(of: Float.self, count: count) : Arena.size(of: UInt16.self, count: count)
    }

    /// Where f32 values of the slot from `row` on are: on the tape itself, or in `scratch` until `keep` rounds them.
    func values(_ slot: Int, row: Int, scratch: UnsafeMutablePointer<Float>) -> UnsafeMutablePointer<Float> {
        floats.map { $0 + (slot * rows + row) * width } ?? scratch
    }

    /// Rounds rows from `scratch` onto the tape.
    func keep(_ slot: Int, rows range: Range<Int>, scratch: UnsafePointer<Float>) {
        guard let halves else { return }
        lora_f32_to_bf16(halves + (slot * rows + range.lowerBound) * width, scratch, range.count * width)
    }

    /// Rounds one row from `values` onto the tape.
    func keep(_ slot: Int, row: Int, _ values: UnsafePointer<Float>) {
        keep(slot, rows: row..<row + 1, scratch: values)
    }

    /// Brings rows back into `scratch`.
    func recall(_ slot: Int, rows range: Range<Int>, scratch: UnsafeMutablePointer<Float>) {
        guard let halves else { return }
        lora_bf16_to_f32(scratch, halves + (slot * rows + range.lowerBound) * width, range.count * width)
    }
}
