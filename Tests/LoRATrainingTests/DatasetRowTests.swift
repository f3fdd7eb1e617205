import LoRAFormats
import OrderedCollections
import Testing

@testable import LoRATraining

@Suite("Rows of a data set")
struct DatasetRowTests {
    private func row(_ json: String) throws -> DatasetRow {
        let value = try JSONValue(parsing: json)
        return try DatasetRow(value, form: RowForm.detect(in: value))
    }

    private func message(_ role: String, _ content: String) -> JSONValue {
        .object(["role": .string(role), "content": .string(content)])
    }

    @Test("Each form is read into what it says")
    func forms() throws {
        let exchange = [message("user", "hi"), message("assistant", "hello")]
        #expect(
            try row(#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}"#)
                == .conversation(messages: exchange, tools: nil))
        #expect(
            try row(#"{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"hello"}]}"#)
                == .conversation(messages: exchange, tools: nil))
        #expect(try row(#"{"prompt":"2+2=","completion":"4"}"#) == .completion(prompt: "2+2=", completion: "4"))
        #expect(
            try row(#"{"instruction":"add","input":"2, 2","output":"4"}"#)
                == .instruction(instruction: "add", input: "2, 2", output: "4"))
        for absent in ["", #""input":null,"#, #""input":"","#] {
            #expect(
                try row("{\"instruction\":\"add\",\(absent)\"output\":\"4\"}")
                    == .instruction(instruction: "add", input: "", output: "4"))
        }
        #expect(try row(#"{"text":"all of it","id":7}"#) == .text("all of it"))
    }

    @Test("Every other member of a message reaches the template, and tools with it")
    func membersAreKept() throws {
        let json = #"""
            {"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}],
             "tools":[{"type":"function"}]}
            """#
        guard case .conversation(let messages, let tools) = try row(json) else {
            Issue.record("not a conversation")
            return
        }
        #expect(messages[1]["tool_calls"]?.arrayValue?.count == 1)
        #expect(tools?.arrayValue?.count == 1)
    }

    @Test(
        "A bad row is refused with what was found and what is expected",
        arguments: [
            ("[]", "expected a JSON object, found an empty list"),
            ("{}", "has the keys (none); a row needs messages, or conversations, or prompt + completion"),
            (#"{"question":"a","answer":"b"}"#, #"has the keys "question", "answer"; a row needs"#),
            (#"{"messages":"hi"}"#, #""messages" must be a list of messages that is not empty, found a string"#),
            (#"{"messages":[]}"#, "found an empty list"),
            (#"{"messages":["hi"]}"#, "messages[0] must be an object, found a string"),
            (#"{"messages":[{"content":"hi"}]}"#, #"messages[0] has no "role" that is a string"#),
            (#"{"messages":[{"role":"narrator","content":"hi"}]}"#, #"messages[0] has the role "narrator"; expected"#),
            (#"{"messages":[{"role":"user"}]}"#, #"messages[0] has no "content""#),
            (
                #"{"messages":[{"role":"user","content":7}]}"#,
                #"messages[0]: "content" must be a string, found a number"#
            ),
            (#"{"messages":[{"role":"assistant","content":null}]}"#, #""content" must be a string, found null"#),
            (#"{"messages":[{"role":"user","content":"hi"}]}"#, "has no answer of the assistant"),
            (
                #"{"messages":[{"role":"assistant","content":"a"}],"tools":"x"}"#,
                #""tools" must be a list, found a string"#
            ),
            (
                #"{"conversations":[{"from":"narrator","value":"hi"}]}"#,
                #"conversations[0] is from "narrator"; expected"#
            ),
            (#"{"conversations":[{"from":"human"}]}"#, #"conversations[0] has no "value" that is a string"#),
            (#"{"prompt":1,"completion":"4"}"#, #""prompt" must be a string, found a number"#),
            (#"{"instruction":"a","input":[1],"output":"b"}"#, #""input" must be a string, found a list"#),
            (#"{"text":{}}"#, #""text" must be a string, found an object"#),
        ])
    func refusals(json: String, expected: String) throws {
        let error = #expect(throws: FormatError.self) { try row(json) }
        #expect(error?.message.contains(expected) == true, "\(error?.message ?? "no error")")
        #expect(error?.message.contains("\n") == false)
    }

    @Test("A row of another form than the first is refused, with the keys it lacks")
    func otherForm() throws {
        let value = try JSONValue(parsing: #"{"text":"a"}"#)
        let error = #expect(throws: FormatError.self) { try DatasetRow(value, form: .completion) }
        #expect(
            error?.message
                == #"no "prompt", "completion" among the keys "text"; the first row has the form prompt + completion"#)
    }

    @Test("A hostile key cannot break the line of an error")
    func hostileKey() throws {
        let error = #expect(throws: FormatError.self) { try row("{\"a\\n\\u001b[31m\\u0000b\":1}") }
        let message = try #require(error?.message)
        #expect(message.unicodeScalars.allSatisfy { $0.value >= 32 })
    }
}
