import Foundation
import LoRAFormats
import OrderedCollections
import Testing

@Suite("Safetensors")
struct SafetensorsTests {
    /// A file of `header`, padded as given, and `data` bytes.
    private func file(_ header: String, data: Int = 0, length: UInt64? = nil) -> [UInt8] {
        withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { Array($0) }
            + Array(header.utf8) + [UInt8](repeating: 7, count: data)
    }

    private func parse(_ bytes: [UInt8]) throws -> SafetensorsFile {
        try SafetensorsFile(OwnedBytes(bytes), name: "test")
    }

    @Test("reads what the reference implementation wrote, and writes the same bytes")
    func reference() throws {
        let golden = try Support.golden("small.safetensors")
        let file = try SafetensorsFile(path: Support.goldenPath("small.safetensors"))
        #expect(file.metadata == ["format": "pt"])
        #expect(
            Set(file.tensors.map(\.name)) == ["b.lora_A.weight", "a.lora_B.weight", "half", "index", "scalar", "none"])
        let half = try #require(file.tensor(named: "half"))
        #expect(half.shape == [1, 3] && half.type == .f16)
        #expect(try file.floats(of: half) == [0.5, -2, 65504])
        let scalar = try #require(file.tensor(named: "scalar"))
        #expect(scalar.shape == [])
        #expect(try file.floats(of: scalar) == [1.5])
        let index = try #require(file.tensor(named: "index"))
        #expect(Support.message { _ = try file.floats(of: index) }.contains("I64"))
        let tensors = try file.tensors.shuffled().map {
            try NamedTensor(name: $0.name, type: $0.type, shape: $0.shape, bytes: file.withBytes(of: $0) { Array($0) })
        }
        #expect(try SafetensorsWriter.serialize(tensors) == golden)
    }

    @Test("floats round to nearest even", arguments: [SafetensorsType.f32, .f16, .bf16])
    func rounding(type: SafetensorsType) throws {
        let values: [Float] = [0, -0.0, 1, 1.00390625, 1.01171875, 1e-8, 3e38, -65504, .infinity, .nan]
        let tensor = try NamedTensor(name: "t", type: type, shape: [2, 5], elements: values)
        let file = try parse(try SafetensorsWriter.serialize([tensor]))
        let read = try file.floats(of: try #require(file.tensor(named: "t")))
        let expected: [Float] =
            switch type {
            case .f32: values
            case .f16: values.map { Float(Float16($0)) }
            default: [0, -0.0, 1, 1, 1.015625, 1.0011717677116394e-08, 3.00405527047391e+38, -65536, .infinity, .nan]
            }
        for (value, expected) in zip(read, expected) {
            #expect(value == expected || (value.isNaN && expected.isNaN))
        }
        #expect(read[1].sign == .minus)
    }

    @Test(
        "hostile headers are refused",
        arguments: [
            (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, "data_offsets"),
            (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9, "the file at"),
            (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, "a gap"),
            (
                #"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"u":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                4, "overlap"
            ),
            (
                #"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8, "duplicate"
            ),
            (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "ascending"),
            (#"{"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "takes 12"),
            (#"{"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8, "shape"),
            (
                #"{"t":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,8]}}"#, 8,
                "shape"
            ),
            (#"{"t":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#, 8, "shape"),
            (#"{"t":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}"#, 8, "shape"),
            (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999]}}"#, 8, "data_offsets"),
            (#"{"t":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}}"#, 8, "F4"),
            (#"{"t":{"shape":[2],"data_offsets":[0,8]}}"#, 8, "dtype"),
            (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}"#, 8, "exactly"),
            (#"{"t":1}"#, 0, "exactly"), (#"{"__metadata__":[]}"#, 0, "__metadata__"),
            (#"{"__metadata__":{"a":1}}"#, 0, "__metadata__"), ("[]", 0, "'{'"), ("{", 0, "byte 1"), ("", 0, "'{'"),
        ])
    func hostile(header: String, data: Int, part: String) {
        let message = Support.message { _ = try parse(file(header, data: data)) }
        #expect(message.contains(part) && message.hasPrefix("test: "), "\(message)")
    }

    @Test("hostile header lengths are refused", arguments: [1, 3, 100_000_001, .max] as [UInt64])
    func hostileLength(length: UInt64) {
        #expect(!Support.message { _ = try parse(file("{}", length: length)) }.isEmpty)
    }

    @Test("every truncation is refused; no changed byte crashes")
    func damage() throws {
        let golden = try Support.golden("small.safetensors")
        Damage.truncate(golden) { try parse($0) }
        Damage.change(golden) { try parse($0) }
    }
}
