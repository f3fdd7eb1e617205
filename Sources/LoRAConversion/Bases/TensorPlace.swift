import LoRAModel

/// A tensor under both of its names: in a GGUF file and in a Hugging Face checkpoint.
struct TensorPlace {
    /// GGUF's name.
    let name: String
    let checkpointName: String
    /// Outermost dimension first.
    let shape: [Int]
    let order: RowOrder

    /// How rows stand in a GGUF file.
    enum RowOrder: Equatable {
        case same
        /// Rotary pairs of each of so many heads are adjacent instead of half a head apart.
        case permuted(heads: Int)
    }

    var isVector: Bool { shape.count == 1 }
    var rows: Int { shape[0] }
    /// Elements of a row; of a vector, 1.
    var columns: Int { isVector ? 1 : shape[1] }
    var count: Int { shape.reduce(1, *) }

    /// The checkpoint's row that is row `row` of the GGUF tensor.
    func checkpointRow(_ row: Int) -> Int {
        guard case .permuted(let heads) = order else { return row }
        let half = rows / heads / 2
        let (head, index) = (row / (2 * half), row % (2 * half))
        return head * 2 * half + (index % 2) * half + index / 2
    }

    /// The GGUF tensor's row that is row `row` of the checkpoint's.
    func baseRow(_ row: Int) -> Int {
        guard case .permuted(let heads) = order else { return row }
        let half = rows / heads / 2
        let (head, index) = (row / (2 * half), row % (2 * half))
        return head * 2 * half + (index % half) * 2 + index / half
    }

    /// All tensors of a model, in the order of their use, but for `rope_freqs.weight`, which no checkpoint has.
    static func all(
        _ configuration: ModelConfiguration, isTied: Bool, hasQueryKeyValueBias: Bool, hasAttentionOutputBias: Bool
    ) -> [TensorPlace] {
        let (C, V) = (configuration.hiddenSize, configuration.vocabularySize)
        var places = [TensorPlace("token_embd.weight", "model.embed_tokens.weight", [V, C])]
        for block in 0..<configuration.blockCount {
            places += weights(configuration, block: block)
            if hasQueryKeyValueBias { places += queryKeyValueBiases(configuration, block: block) }
            if hasAttentionOutputBias {
                places.append(TensorPlace(block, "attn_output", "self_attn.o_proj", [C], "bias"))
            }
        }
        places.append(TensorPlace("output_norm.weight", "model.norm.weight", [C]))
        if !isTied { places.append(TensorPlace("output.weight", "lm_head.weight", [V, C])) }
        return places
    }

    private static func weights(_ configuration: ModelConfiguration, block: Int) -> [TensorPlace] {
        let (C, F, D) = (configuration.hiddenSize, configuration.feedForwardSize, configuration.headSize)
        let (Q, KV) = (configuration.querySize, configuration.keyValueSize)
        let orders = rowOrders(configuration)
        var places = [
            TensorPlace(block, "attn_norm", "input_layernorm", [C]),
            TensorPlace(block, "attn_q", "self_attn.q_proj", [Q, C], order: orders.query),
            TensorPlace(block, "attn_k", "self_attn.k_proj", [KV, C], order: orders.key),
            TensorPlace(block, "attn_v", "self_attn.v_proj", [KV, C]),
            TensorPlace(block, "attn_output", "self_attn.o_proj", [C, Q]),
            TensorPlace(block, "ffn_norm", "post_attention_layernorm", [C]),
            TensorPlace(block, "ffn_gate", "mlp.gate_proj", [F, C]),
            TensorPlace(block, "ffn_up", "mlp.up_proj", [F, C]),
            TensorPlace(block, "ffn_down", "mlp.down_proj", [C, F]),
        ]
        if configuration.normalizesHeads {
            places.append(TensorPlace(block, "attn_q_norm", "self_attn.q_norm", [D]))
            places.append(TensorPlace(block, "attn_k_norm", "self_attn.k_norm", [D]))
        }
        return places
    }

    private static func queryKeyValueBiases(_ configuration: ModelConfiguration, block: Int) -> [TensorPlace] {
        let (Q, KV, orders) = (configuration.querySize, configuration.keyValueSize, rowOrders(configuration))
        return [
            TensorPlace(block, "attn_q", "self_attn.q_proj", [Q], "bias", order: orders.query),
            TensorPlace(block, "attn_k", "self_attn.k_proj", [KV], "bias", order: orders.key),
            TensorPlace(block, "attn_v", "self_attn.v_proj", [KV], "bias"),
        ]
    }

    private static func rowOrders(_ configuration: ModelConfiguration) -> (query: RowOrder, key: RowOrder) {
        configuration.ropeUsesHalves
            ? (.same, .same)
            : (.permuted(heads: configuration.headCount), .permuted(heads: configuration.keyValueHeadCount))
    }

    private init(_ name: String, _ checkpointName: String, _ shape: [Int], order: RowOrder = .same) {
        self.name = name
        self.checkpointName = checkpointName
        self.shape = shape
        self.order = order
    }

    private init(
        _ block: Int, _ name: String, _ checkpointName: String, _ shape: [Int], _ kind: String = "weight",
        order: RowOrder = .same
    ) {
        self.init(
            "blk.\(block).\(name).\(kind)", "model.layers.\(block).\(checkpointName).\(kind)", shape, order: order)
    }
}
