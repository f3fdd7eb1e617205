import Glibc
import LoRAFormats

/// Watches the file behind a map: whoever truncates or overwrites it changes the weights of a running engine. (Replacing
/// it by a rename, as `lora merge` does, leaves the mapped file as it was.)
final class MapGuardian {
    private let descriptor: Int32
    private let map: MappedFile

    /// - Throws: `FormatError` when the file is not the mapped one any more.
    init(_ map: MappedFile) throws {
        self.map = map
        descriptor = open(map.path, O_RDONLY | O_CLOEXEC)
        if let change { throw FormatError("\(change); start again", file: map.path) }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// What happened to the file; nil when it is as it was.
    var change: String? {
        var status = stat()
        guard descriptor >= 0, fstat(descriptor, &status) == 0 else { return "the base's file cannot be examined" }
        let modified = Int(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int(status.st_mtim.tv_nsec)
        let identity = map.identity
        guard UInt64(status.st_ino) == identity.inode, UInt64(status.st_dev) == identity.device else {
            return "the base's file was replaced while it was opened"
        }
        guard Int(status.st_size) == identity.size, modified == identity.modified else {
            return "the base's file was changed under the map"
        }
        return nil
    }
}
