import OrderedCollections

@testable import LoRAConversion
@testable import LoRAFormats
@testable import LoRAText

/// What reads bytes that somebody else wrote. Feeding any bytes to it ends in a result or in a one-line error: never in
/// a crash, a hang or a wrong answer that can be noticed.
enum FuzzTarget: String, CaseIterable, Sendable {
    case gguf, safetensors, archive, tokenizer, template
    case adapterConfiguration = "adapter-config"

    /// Feeds `bytes` to the reader.
    func run(_ bytes: [UInt8]) {
        do {
            switch self {
            case .gguf: try Self.readGGUF(bytes)
            case .safetensors: try Self.readSafetensors(bytes)
            case .archive: try Self.readArchive(bytes)
            case .tokenizer: try Self.readTokenizer(bytes)
            case .template: try Self.renderTemplate(bytes)
            case .adapterConfiguration: try Self.readAdapterConfiguration(bytes)
            }
        } catch let error as FormatError {
            precondition(!error.description.utf8.contains(0x0A), "an error of several lines: \(error)")
        } catch let error as TemplateError {
            precondition(error.line > 0, "an error without a place: \(error)")
        } catch {
            preconditionFailure("an error of another kind: \(error)")
        }
    }

    private static func readGGUF(_ bytes: [UInt8]) throws {
        let header = try bytes.withUnsafeBytes { try GGUFHeader(reading: $0) }
        for tensor in header.tensors {
            let end = tensor.offset + tensor.byteCount
            precondition(tensor.offset >= header.dataOffset && end <= bytes.count, "\(tensor.name) lies outside")
        }
        try use(Tokenizer(metadata: header.metadata))
    }

    private static func readSafetensors(_ bytes: [UInt8]) throws {
        let file = try SafetensorsFile(OwnedBytes(bytes), name: "fuzz")
        for tensor in file.tensors {
            file.withBytes(of: tensor) { precondition($0.count == tensor.range.count, "\(tensor.name) is cut") }
        }
    }

    private static func readArchive(_ bytes: [UInt8]) throws {
        let archive = try ZipArchive(bytes)
        let limit = 1 << 20
        for entry in archive.entries { _ = try? archive.read(entry, limit: limit) }
        let adapter = try AdapterFile.read(archive, maximumTensors: limit)
        let again = try AdapterFile.read(ZipArchive(adapter.serialized()), maximumTensors: limit)
        precondition(again.contentDigest == adapter.contentDigest, "written and read again, the adapter differs")
    }

    private static func readTokenizer(_ bytes: [UInt8]) throws {
        let files = try TokenizerFiles(directory: "") { $0 == "/tokenizer.json" ? bytes : nil }
        let keys = try TokenizerConversion.keys(files: files, vocabularySize: 2048)
        try use(Tokenizer(metadata: Dictionary(keys) { first, _ in first }))
    }

    /// Encodes and decodes a text with much in it.
    private static func use(_ tokenizer: Tokenizer) {
        let text = "Hello  world's 12345\r\n\t e\u{301} 中文 👩‍🚀 <s></s><|im_end|> ▁\0"
        let (ids, ranges) = tokenizer.encodeWithRanges(text)
        var end = 0
        for range in ranges {
            precondition(
                range.lowerBound >= end && range.upperBound <= text.utf8.count, "the range \(range) after \(end)")
            end = range.upperBound
        }
        var decoder = StreamingDecoder(tokenizer: tokenizer)
        let parts = ids.map { decoder.append($0) } + [decoder.finish()]
        precondition(parts.joined().utf8.elementsEqual(tokenizer.decode(ids).utf8), "streamed, the text is another")
        let invalid: [UInt8] = [0x80, 0x20, 0x61, 0xF0, 0x9F, 0xFF]
        _ = invalid.withUnsafeBytes { tokenizer.encode(bytes: $0, parsingSpecial: false) }
    }

    private static func readAdapterConfiguration(_ bytes: [UInt8]) throws {
        let configuration = try AdapterConfiguration(json: JSONValue(parsing: bytes))
        let again = try AdapterConfiguration(json: configuration.json)
        precondition(again == configuration, "written and read again, the configuration differs")
        let matcher = try AdapterModuleMatcher(configuration)
        for module in ["model.layers.3.self_attn.q_proj", "model.layers.11.mlp.down_proj", "lm_head"] {
            _ = matcher.rankAndScale(module: module, layer: 3)
        }
    }

    private static func renderTemplate(_ bytes: [UInt8]) throws {
        let template = try ChatTemplate(source: String(decoding: bytes, as: UTF8.self))
        let messages = JSONValue.array([
            message("system", "Be brief."), message("user", "Turn on the light."), message("assistant", "Done é 中."),
        ])
        let (text, generation, _) = try template.run(
            ChatTemplate.completed(["messages": messages, "eos_token": .string("</s>"), "bos_token": .string("<s>")]),
            now: 1_795_392_000)
        for range in generation {
            precondition(range.upperBound <= text.utf8.count, "the block \(range) lies outside the text")
        }
    }

    private static func message(_ role: String, _ content: String) -> JSONValue {
        .object(["role": .string(role), "content": .string(content)])
    }
}
