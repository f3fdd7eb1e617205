// swift-tools-version: 6.2
import PackageDescription

// Needs the flags that `make fuzz` gives: the sanitizers have to see the modules under test too.
let package = Package(
    name: "fuzz",
    dependencies: [
        .package(name: "lora", path: ".."),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    ],
    targets: [
        .target(name: "CFuzzer"),
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "CFuzzer",
                .product(name: "LoRAConversion", package: "lora"),
                .product(name: "LoRAFormats", package: "lora"),
                .product(name: "LoRAText", package: "lora"),
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            swiftSettings: [
                .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("MemberImportVisibility"),
                .enableUpcomingFeature("InternalImportsByDefault"),
            ]),
    ],
    swiftLanguageModes: [.v6]
)
