import LoRAModel

/// Keys and values of prompts that were read before, by whole pages: what the adapter's content, the tenant and all tokens
/// up to the page's end decide.
///
/// Only rows that went through expanded matrices come here (`InferencePass.expandedTokens`), never rows of answers: others
/// round differently, so that a cached prefix is, bit for bit, what reading the prompt again would give. Tenants share
/// nothing, or the time of an answer would tell one what another asked.
///
/// The pages form a tree under each root, a page's children following it. Used by the engine's thread alone.
final class PrefixCache {
    /// What decides the keys and values of equal tokens, and who may see them.
    struct Root: Hashable {
        let tenant: String
        /// Of the adapter; empty for the base alone.
        let digest: String
    }

    /// A page and the tokens of its positions.
    final class Node {
        let page: KeyValuePage
        fileprivate let tokens: [Int32]
        fileprivate let root: Root
        fileprivate unowned let parent: Node?
        /// Pages before it.
        private let depth: Int
        fileprivate var children: [[Int32]: Node] = [:]
        /// Running sequences that read the page.
        fileprivate var users = 0
        fileprivate var lastUse = 0

        fileprivate init(page: KeyValuePage, tokens: [Int32], root: Root, parent: Node?) {
            self.page = page
            self.tokens = tokens
            self.root = root
            self.parent = parent
            depth = parent.map { $0.depth + 1 } ?? 0
        }

        /// Whether it was used before `other` was, or with it and comes after it in a prompt. Whoever uses a page uses those
        /// before it too, so that every page goes before its parent.
        fileprivate func goesBefore(_ other: Node) -> Bool {
            (lastUse, other.depth) < (other.lastUse, depth)
        }
    }

    /// Pages that the cache holds.
    private(set) var pageCount = 0
    /// Of those, pages that running sequences read.
    private(set) var usedPageCount = 0
    private var roots: [Root: [[Int32]: Node]] = [:]
    /// Counts uses, as a clock.
    private var uses = 0

    /// The longest run of pages that hold the beginning of `prompt`, as far as a pass over expanded matrices reads it.
    /// They stay until `release`.
    func acquire(_ root: Root, _ prompt: [Int32]) -> [Node] {
        uses += 1
        var path: [Node] = []
        let length = KeyValueCache.pageLength
        let end = InferencePass.expandedTokens(ofPrompt: prompt.count)
        while (path.count + 1) * length <= end {
            let tokens = Array(prompt[path.count * length..<(path.count + 1) * length])
            guard let node = path.last.map({ $0.children[tokens] }) ?? roots[root]?[tokens] else { break }
            use(node)
            path.append(node)
        }
        return path
    }

    /// Keeps the full pages of `prompt`, which is the part that was read, beyond `path`, what `acquire` gave, and returns
    /// the longer path to release.
    ///
    /// Where another sequence put an equal page in between, that one stays and the sequence goes on with its own.
    func extend(_ path: [Node], _ root: Root, _ prompt: ArraySlice<Int32>, pages: [KeyValuePage]) -> [Node] {
        for node in path { node.lastUse = uses }
        var path = path
        let length = KeyValueCache.pageLength
        while (path.count + 1) * length <= prompt.count {
            let tokens = Array(prompt[path.count * length..<(path.count + 1) * length])
            guard (path.last.map { $0.children[tokens] } ?? roots[root]?[tokens]) == nil else { break }
            let node = Node(page: pages[path.count], tokens: tokens, root: root, parent: path.last)
            if let parent = path.last {
                parent.children[tokens] = node
            } else {
                roots[root, default: [:]][tokens] = node
            }
            pageCount += 1
            use(node)
            path.append(node)
        }
        return path
    }

    /// Lets go of what `acquire` or `extend` gave.
    func release(_ path: [Node]) {
        for node in path {
            precondition(node.users > 0, "a page released twice")
            node.users -= 1
            if node.users == 0 { usedPageCount -= 1 }
        }
    }

    /// Drops the pages that nobody reads and that were not used for the longest time, up to `count` of them.
    /// - Returns: how many were dropped.
    @discardableResult
    func evict(_ count: Int) -> Int {
        var unused: [Node] = []
        var waiting = roots.values.flatMap(\.values)
        while let node = waiting.popLast() {
            if node.users == 0 { unused.append(node) }
            waiting += node.children.values
        }
        unused.sort { $0.goesBefore($1) }
        for node in unused.prefix(count) { remove(node) }
        return min(count, unused.count)
    }

    private func use(_ node: Node) {
        if node.users == 0 { usedPageCount += 1 }
        node.users += 1
        node.lastUse = uses
    }

    private func remove(_ node: Node) {
        pageCount -= 1
        if let parent = node.parent {
            parent.children[node.tokens] = nil
        } else {
            roots[node.root]?[node.tokens] = nil
            if roots[node.root]?.isEmpty == true { roots[node.root] = nil }
        }
    }
}
