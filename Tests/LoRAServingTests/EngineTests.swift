import Testing

@testable import LoRAServing

@Suite("Engine")
struct EngineTests {
    @Test("Positions are what the caller says")
    func limits() { #expect(InferenceEngine.Limits(positions: 7).positions == 7) }
}
