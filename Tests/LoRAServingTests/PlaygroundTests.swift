import Crypto
import Foundation
import Testing

@testable import LoRAServing

@Suite("The page")
struct PlaygroundTests {
    /// What is between `<tag>` and `</tag>`, each time.
    private func contents(of tag: String) -> [Substring] {
        Playground.html.split(separator: "<\(tag)>", omittingEmptySubsequences: false).dropFirst().compactMap {
            $0.firstRange(of: "</\(tag)>").map { end in $0[..<end.lowerBound] }
        }
    }

    @Test("Its own style and script, and no other, may run", arguments: ["style", "script"])
    func policy(tag: String) throws {
        let found = contents(of: tag)
        try #require(found.count == 1)
        let digest = Data(SHA256.hash(data: Data(found[0].utf8))).base64EncodedString()
        #expect(Playground.contentSecurityPolicy.contains("\(tag)-src 'sha256-\(digest)';"))
        #expect(Playground.contentSecurityPolicy.hasPrefix("default-src 'none';"))
    }

    @Test(
        "It fetches nothing from elsewhere and makes no HTML of text",
        arguments: [
            "http:", "https:", "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", " style=",
        ])
    func inert(word: String) {
        #expect(!Playground.html.contains(word))
    }
}
