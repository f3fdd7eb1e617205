import LoRAText
struct ReplyText {
    struct Piece { var text: String; var tokens: [ScoredToken] }
    var d: StreamingDecoder
    var isStopped = false
    init(tokenizer: Tokenizer, stops: [String]) { d = StreamingDecoder(tokenizer: tokenizer) }
    mutating func append(_ t: Int32, scored: ScoredToken?) -> Piece {
        let text = d.append(t)
        var s = scored; s?.text = text
        return Piece(text: text, tokens: s.map { [$0] } ?? [])
    }
    mutating func finish() -> Piece { Piece(text: d.finish(), tokens: []) }
}
