public import LoRAFormats

extension AdapterFile {
    /// The adapter's parameters for `base`.
    /// - Parameters:
    ///   - path: of the file, for errors.
    ///   - allowsOtherBase: go ahead when it was trained on another base and its shapes fit.
    /// - Throws: `FormatError` when it belongs to another base or its tensors do not fit.
    public func parameters(for base: BaseModel, path: String, allowsOtherBase: Bool) throws -> AdapterParameters {
        if let expected = record.baseFingerprint, !allowsOtherBase {
            let actual = BaseFingerprint.fingerprint(of: base.file)
            guard actual == expected else {
                throw FormatError(
                    "trained on another base: the adapter's is \(expected), this one is \(actual); "
                        + "use the adapter's base, or --allow-other-base when the shapes fit", file: path)
            }
        }
        do { return try AdapterParameters(file: self, configuration: base.configuration) } catch let error
            as FormatError
        {
            throw FormatError(error.description, file: path)
        }
    }
}
