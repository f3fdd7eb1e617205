internal import Glibc

extension Dataset {
    /// Where a data set is: a directory with a file for each split, or one file.
    public enum Location: Sendable, Equatable {
        case directory(String)
        case file(String)

        /// - Throws: `TrainingDataError` when there is nothing at `path`.
        public init(path: String) throws {
            var status = stat()
            guard stat(path, &status) == 0 else {
                let reason = strerror(errno).map { String(cString: $0) } ?? "error \(errno)"
                throw TrainingDataError("\(path): cannot find the data: \(reason)")
            }
            self = status.st_mode & S_IFMT == S_IFDIR ? .directory(path) : .file(path)
        }

        /// The file of a split. One file is what is trained on and what is tested with; it has nothing to validate with.
        /// - Throws: `TrainingDataError` when a directory has no such file, unless it is the one to validate with.
        public func path(of split: Split) throws -> String? {
            switch self {
            case .file(let path): return split == .valid ? nil : path
            case .directory(let directory):
                let path = (directory.hasSuffix("/") ? directory : directory + "/") + "\(split.rawValue).jsonl"
                var status = stat()
                // A link to nowhere is a split that cannot be read, not one that is not there.
                if lstat(path, &status) == 0 { return path }
                if split == .valid { return nil }
                throw TrainingDataError(
                    "\(directory): there is no \(split.rawValue).jsonl; a data set is a directory with train.jsonl, "
                        + "valid.jsonl and test.jsonl, or one JSONL file")
            }
        }
    }
}
