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
    private let halves: UnsafeMutablePointer<UInt16>?

    init(arena: Arena, compute: Compute, rows: Int, width: Int, slots: Int = 1) {
        self.width = width
        self.rows = rows
        floats = arena.allocate(rows * width * (compute == .f32 ? slots : 1))
        halves = compute == .bf16 ? arena.allocate(rows * width * slots) : nil
    }

    static func size(compute: Compute, rows: Int, width: Int, slots: Int = 1) -> Int {
        switch compute {
        case .f32: Arena.size(of: Float.self, count: rows * width * slots)
        case .bf16:
            Arena.size(of: Float.self, count: rows * width) + Arena.size(of: UInt16.self, count: rows * width * slots)
        }
    }

    /// (rows, width) in f32: valid for the slot last written or opened.
    func values(_ slot: Int = 0) -> UnsafeMutablePointer<Float> {
        halves == nil ? floats + slot * rows * width : floats
    }

    /// (rows, width) in the element type of products: valid for what was sealed.
    func operand(_ slot: Int = 0) -> UnsafeRawPointer {
        guard let halves else { return UnsafeRawPointer(values(slot)) }
        return UnsafeRawPointer(halves + slot * rows * width)
    }

    /// Rounds rows of `values` into the slot.
    func seal(_ slot: Int = 0, rows range: Range<Int>) {
        guard let halves else { return }
        let at = range.lowerBound * width
        lora_f32_to_bf16(halves + slot * rows * width + at, floats + at, range.count * width)
    }

    /// Brings rows of the slot back into `values`.
    func open(_ slot: Int = 0, rows range: Range<Int>) {
        guard let halves else { return }
        let at = range.lowerBound * width
        lora_bf16_to_f32(floats + at, halves + slot * rows * width + at, range.count * width)
    }
}
