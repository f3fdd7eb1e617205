// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "benchmarks",
    dependencies: [
        .package(name: "lora", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        .target(name: "CCeilings", linkerSettings: [.linkedLibrary("dnnl"), .linkedLibrary("gomp")]),
        .executableTarget(
            name: "bench",
            dependencies: [
                "CCeilings",
                .product(name: "LoRAConversion", package: "lora"),
                .product(name: "LoRAFormats", package: "lora"),
                .product(name: "LoRAModel", package: "lora"),
                .product(name: "LoRAText", package: "lora"),
                .product(name: "LoRATraining", package: "lora"),
                .product(name: "LoRAServing", package: "lora"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: [
                .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("MemberImportVisibility"),
                .enableUpcomingFeature("InternalImportsByDefault"),
            ]),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c11
)
