import LoRAFormats
import LoRAText
import Testing

@testable import LoRATraining

@Suite("Rows as transformers encodes them")
struct DatasetRowGoldenTests {
    private struct Golden: Decodable {
        struct Row: Decodable {
            let template: String
            let mask: String
            let row: String
            let ids: [Int32]
            let supervised: String
        }

        let tools: String
        let generation: String
        let rows: [Row]
    }

    @Test("Every form of row has the token ids and the mask of transformers' chat templates")
    func rows() throws {
        let golden = try TestFiles.golden("rows.json", as: Golden.self)
        let tokenizer = try TestBase.tokenizer.get()
        let formats: [String: ChatFormat] = [
            "base": try TestBase.format.get(),
            "tools": ChatFormat(template: try ChatTemplate(source: golden.tools), tokenizer: tokenizer),
            "generation": ChatFormat(template: try ChatTemplate(source: golden.generation), tokenizer: tokenizer),
        ]
        #expect(formats["generation"]?.template.marksGeneration == true)
        #expect(golden.rows.count == 37)
        for expected in golden.rows {
            let encoder = ExampleEncoder(
                tokenizer: tokenizer, format: formats[expected.template], maximumLength: 1000,
                mask: try #require(LossMask(rawValue: expected.mask)))
            let data = try Dataset(bytes: Array(expected.row.utf8), path: "rows.jsonl", encoder: encoder)
            let example = try #require(data.examples.first, "\(expected.row)")
            #expect(example.tokens == expected.ids, "\(expected.row)")
            let mask = example.supervised.map { $0 ? "1" : "0" }.joined()
            #expect(mask == expected.supervised, "\(expected.template) \(expected.mask): \(expected.row)")
        }
    }
}
