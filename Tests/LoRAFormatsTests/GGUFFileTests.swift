import LoRAFormats
import Testing

@Suite("GGUF reader")
struct GGUFFileTests {
    @Test("the real base model")
    func realModel() throws {
        let file = try GGUFFile(path: Support.base)
        #expect(file.keys.count == 33)
        #expect(file.tensors.count == 272)
        #expect(file.tensors.reduce(0) { $0 + $1.count } == 134_515_008)
        #expect(file.metadata["general.architecture"]?.stringValue == "llama")
        #expect(file.metadata["llama.rope.freq_base"]?.floatValue == 100_000)
        let down = try #require(file.tensor(named: "blk.0.ffn_down.weight"))
        #expect(down.shape == [576, 1536])
        #expect(down.type == .q4_1)
        #expect(file.bytes(of: down).count == down.byteCount)
        #expect(file.tensors.count { $0.type == .q4_1 } == 210)
        guard case .strings(let tokens) = file.metadata["tokenizer.ggml.tokens"] else {
            Issue.record("no tokens")
            return
        }
        #expect(tokens.count == 49152)
    }
}
