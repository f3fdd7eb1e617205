import CFuzzer
import Glibc

/// Feeds what libFuzzer invents to the target that FUZZ_TARGET names.
@main
enum EntryPoint {
    private static let target: FuzzTarget = {
        let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
        guard let target = FuzzTarget(rawValue: name) else {
            let names = FuzzTarget.allCases.map(\.rawValue).joined(separator: ", ")
            print("FUZZ_TARGET is '\(name)'; expected one of \(names)")
            exit(64)
        }
        return target
    }()

    static func main() {
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        exit(
            LLVMFuzzerRunDriver(&count, &arguments) { data, count in
                EntryPoint.target.run([UInt8](UnsafeBufferPointer(start: data, count: count)))
                return 0
            })
    }
}
