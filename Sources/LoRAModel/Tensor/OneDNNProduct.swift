import COneDNN

/// oneDNN's matrix product for one thread: a primitive is made once per shape and kept.
final class OneDNNProduct {
    struct Shape: Hashable {
        let M: Int
        let N: Int
        let K: Int
        let xStride: Int
        let yStride: Int
        let order: Order
        let accumulate: Bool
    }

    /// How the weight lies in memory.
    enum Order: Hashable {
        /// (N, K), rows so far apart.
        case outputRows(stride: Int)
        /// (K, N), rows so far apart.
        case termRows(stride: Int)
        /// In the engine's blocks: see `lora_pack_outputs_f32`. oneDNN then wants rows of x and y without gaps.
        case packed
    }

    /// An object, because to change a value inside a dictionary takes memory from the heap.
    private final class Primitive {
        let primitive: dnnl_primitive_t
        let x: dnnl_memory_t
        let w: dnnl_memory_t
        let y: dnnl_memory_t
        var lastUse = 0

        init(primitive: dnnl_primitive_t, x: dnnl_memory_t, w: dnnl_memory_t, y: dnnl_memory_t) {
            (self.primitive, self.x, self.w, self.y) = (primitive, x, w, y)
        }

        deinit {
            dnnl_primitive_destroy(primitive)
            for memory in [x, w, y] { dnnl_memory_destroy(memory) }
        }
    }

    /// Shapes kept before the least recently used one is given up: products of a run differ only in their rows.
    private static let capacity = 256

    private let type: dnnl_data_type_t
    private let engine: dnnl_engine_t
    private let stream: dnnl_stream_t
    private var primitives: [Shape: Primitive] = [:]
    private var uses = 0

    init(compute: Compute) {
        type = compute == .bf16 ? dnnl_bf16 : dnnl_f32
        engine = Self.make { dnnl_engine_create(&$0, dnnl_cpu, 0) }
        let engine = engine
        stream = Self.make { dnnl_stream_create(&$0, engine, UInt32(dnnl_stream_default_flags.rawValue)) }
    }

    deinit {
        primitives = [:]
        dnnl_stream_destroy(stream)
        dnnl_engine_destroy(engine)
    }

    /// y = x · w, or y += x · w, as `shape` says.
    func multiply(
        _ y: UnsafeMutablePointer<Float>, _ x: UnsafeRawPointer, _ w: UnsafeRawPointer, _ shape: Shape
    ) {
        uses += 1
        // OpenMP keeps this for each of our threads. One that has not said it gets helpers, which spin when they are idle.
        omp_set_num_threads(1)
        if primitives[shape] == nil { insert(shape) }
        guard let entry = primitives[shape] else { return }
        entry.lastUse = uses
        Self.check(dnnl_memory_set_data_handle(entry.x, UnsafeMutableRawPointer(mutating: x)))
        Self.check(dnnl_memory_set_data_handle(entry.w, UnsafeMutableRawPointer(mutating: w)))
        Self.check(dnnl_memory_set_data_handle(entry.y, y))
        withUnsafeTemporaryAllocation(of: dnnl_exec_arg_t.self, capacity: 3) { arguments in
            arguments[0] = dnnl_exec_arg_t(arg: DNNL_ARG_SRC, memory: entry.x)
            arguments[1] = dnnl_exec_arg_t(arg: DNNL_ARG_WEIGHTS, memory: entry.w)
            arguments[2] = dnnl_exec_arg_t(arg: DNNL_ARG_DST, memory: entry.y)
            Self.check(dnnl_primitive_execute(entry.primitive, stream, 3, arguments.baseAddress))
        }
    }

    private func insert(_ shape: Shape) {
        if primitives.count >= Self.capacity, let oldest = primitives.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            primitives[oldest.key] = nil
        }
        var x = Self.describe(shape.M, shape.K, type, (shape.xStride, 1))
        var w = weight(shape)
        var y = Self.describe(shape.M, shape.N, dnnl_f32, (shape.yStride, 1))
        var description = dnnl_matmul_desc_t()
        Self.check(dnnl_matmul_desc_init(&description, &x, &w, nil, &y))
        let attributes = Self.make { dnnl_primitive_attr_create(&$0) }
        defer { dnnl_primitive_attr_destroy(attributes) }
        if shape.accumulate {
            let operations = Self.make { dnnl_post_ops_create(&$0) }
            Self.check(dnnl_post_ops_append_sum(operations, 1))
            Self.check(dnnl_primitive_attr_set_post_ops(attributes, operations))
            dnnl_post_ops_destroy(operations)
        }
        let engine = engine
        let plan = Self.make { dnnl_primitive_desc_create(&$0, &description, attributes, engine, nil) }
        defer { dnnl_primitive_desc_destroy(plan) }
        primitives[shape] = Primitive(
            primitive: Self.make { dnnl_primitive_create(&$0, plan) },
            x: Self.make { dnnl_memory_create(&$0, &x, engine, nil) },
            w: Self.make { dnnl_memory_create(&$0, &w, engine, nil) },
            y: Self.make { dnnl_memory_create(&$0, &y, engine, nil) }
        )
    }

    private func weight(_ shape: Shape) -> dnnl_memory_desc_t {
        switch shape.order {
        case .outputRows(let stride): return Self.describe(shape.K, shape.N, type, (1, stride))
        case .termRows(let stride): return Self.describe(shape.K, shape.N, type, (stride, 1))
        case .packed:
            precondition(shape.xStride == shape.K && shape.yStride == shape.N, "gaps between rows: \(shape)")
            var description = dnnl_memory_desc_t()
            let tag = type == dnnl_bf16 ? dnnl_BA16a64b2a : dnnl_BA16a64b
            Self.check(dnnl_memory_desc_init_by_tag(&description, 2, [Int64(shape.K), Int64(shape.N)], type, tag))
            return description
        }
    }

    private static func describe(
        _ rows: Int, _ columns: Int, _ type: dnnl_data_type_t, _ strides: (Int, Int)
    ) -> dnnl_memory_desc_t {
        var description = dnnl_memory_desc_t()
        let dimensions = [Int64(rows), Int64(columns)]
        let steps = [Int64(strides.0), Int64(strides.1)]
        check(dnnl_memory_desc_init_by_strides(&description, 2, dimensions, type, steps))
        return description
    }

    private static func make(_ create: (inout OpaquePointer?) -> dnnl_status_t) -> OpaquePointer {
        var object: OpaquePointer?
        check(create(&object))
        guard let object else { preconditionFailure("oneDNN returned no object") }
        return object
    }

    private static func check(_ status: dnnl_status_t) {
        precondition(status == dnnl_success, "oneDNN failed with status \(status.rawValue)")
    }
}
