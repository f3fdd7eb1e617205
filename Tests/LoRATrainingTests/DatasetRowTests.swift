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

    @Test("Each form is read into what it says")
    func forms() throws {
        let exchange = Conversation(question: "hi", answer: "hello")
        #expect(
            try row(#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}"#)
                == .conversation(exchange))
        #expect(
            try row(#"{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"hello"}]}"#)
                == .conversation(exchange))
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
        guard case .conversation(let conversation) = try row(json) else {
            Issue.record("not a conversation")
            return
        }
        #expect(conversation.messages[1].value["tool_calls"]?.arrayValue?.count == 1)
        #expect(conversation.tools?.arrayValue?.count == 1)
    }

    @Test(
        "A weight of 0 leaves an answer out of what is learned, and no template sees it; an empty answer is left out too"
    )
    func weights() throws {
        for (answer, isLearned) in [
            (#"{"role":"assistant","content":"a"}"#, true), (#"{"role":"assistant","content":"a","weight":1}"#, true),
            (#"{"role":"assistant","content":"a","weight":0}"#, false), (#"{"role":"assistant","content":""}"#, false),
            (#"{"role":"assistant","content":"a","weight":null,"tool_calls":null}"#, true),
            (#"{"role":"assistant","content":"","tool_calls":[{"id":"1"}]}"#, true),
        ] {
            let json = "{\"messages\":[{\"role\":\"user\",\"content\":\"q\",\"weight\":0},\(answer)]}"
            guard case .conversation(let conversation) = try row(json) else {
                Issue.record("not a conversation: \(json)")
                continue
            }
            #expect(conversation.messages.map(\.isLearned) == [false, isLearned], "\(answer)")
            #expect(conversation.messages.allSatisfy { $0.value["weight"] == nil })
        }
        let turns = try row(#"{"conversations":[{"from":"gpt","value":"a","weight":0},{"from":"gpt","value":"b"}]}"#)
        #expect(
            turns
                == .conversation(
                    Conversation(messages: [
                        .init(role: "assistant", content: "a", weight: 0), .init(role: "assistant", content: "b"),
                    ])))
    }

    @Test(
        "A bad row is refused with what was found and what is expected",
        arguments: [
            ("[]", "expected a JSON object, found an empty list"),
            ("{}", "has the keys (none); a row needs prompt + chosen + rejected, or messages, or conversations"),
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
                #"{"messages":[{"role":"assistant","content":"a","weight":0.5}]}"#,
                #"messages[0]: "weight" must be 0 or 1, found 0.5"#
            ),
            (
                #"{"messages":[{"role":"assistant","content":"a","weight":true}]}"#,
                #"messages[0]: "weight" must be 0 or 1, found a boolean"#
            ),
            (
                #"{"messages":[{"role":"user","content":"a","weight":1}]}"#,
                #"messages[0]: "weight" is 1, but only answers of the assistant are learned"#
            ),
            (
                #"{"conversations":[{"from":"gpt","value":"a","weight":2}]}"#,
                #"conversations[0]: "weight" must be 0 or 1, found 2"#
            ),
            (
                #"{"messages":[{"role":"assistant","content":null,"tool_calls":null}]}"#,
                #""content" must be a string, found null"#
            ),
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
