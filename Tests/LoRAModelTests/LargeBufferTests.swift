import Testing

@testable import LoRAModel

@Suite("Large buffers")
struct LargeBufferTests {
    @Test(
        "Every byte can be written, on the heap and in a map of its own",
        arguments: [0, 1, 63, (1 << 17) - 1, 1 << 17, (1 << 20) + 1])
    func bytes(count: Int) {
        let buffer = LargeBuffer(byteCount: count)
        let start = buffer.bytes
        #expect(Int(bitPattern: start).isMultiple(of: 64))
        start.initializeMemory(as: UInt8.self, repeating: 7, count: count)
        #expect(UnsafeRawBufferPointer(start: start, count: count).allSatisfy { $0 == 7 })
        _ = consume buffer
    }
}
