// swift-tools-version: 6.2
import PackageDescription

let swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let package = Package(
    name: "lora",
    products: [
        .executable(name: "lora", targets: ["lora"]),
        .library(name: "LoRAFormats", targets: ["LoRAFormats"]),
        .library(name: "LoRAText", targets: ["LoRAText"]),
        .library(name: "LoRAConversion", targets: ["LoRAConversion"]),
        .library(name: "LoRAModel", targets: ["LoRAModel"]),
        .library(name: "LoRATraining", targets: ["LoRATraining"]),
        .library(name: "LoRAServing", targets: ["LoRAServing"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        .systemLibrary(name: "CLinux"),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
        .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"])]),
        .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
        .target(name: "CKernels"),
        .target(
            name: "LoRAFormats",
            dependencies: [
                "CLinux", "CPCRE2", "CZlib", "Yams",
                .product(name: "OrderedCollections", package: "swift-collections"),
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "LoRAText",
            dependencies: [
                "CPCRE2", "LoRAFormats",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "LoRAModel",
            dependencies: ["CKernels", "COneDNN", "COpenBLAS", "LoRAFormats"],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "LoRATraining",
            dependencies: [
                "CKernels", "LoRAFormats", "LoRAText", "LoRAModel",
                .product(name: "OrderedCollections", package: "swift-collections"),
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "LoRAConversion",
            dependencies: [
                "CKernels", "LoRAFormats", "LoRAText", "LoRAModel",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "LoRAServing",
            dependencies: [
                "CKernels", "LoRAFormats", "LoRAText", "LoRAModel",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "OrderedCollections", package: "swift-collections"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: swiftSettings
        ),
        .executableTarget(
            name: "lora",
            dependencies: [
                "LoRAFormats", "LoRAText", "LoRAModel", "LoRATraining", "LoRAConversion", "LoRAServing",
                .product(name: "OrderedCollections", package: "swift-collections"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "LoRAFormatsTests", dependencies: ["LoRAFormats", "CKernels", "TestSupport"], exclude: ["Goldens"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "LoRATextTests", dependencies: ["LoRAText", "LoRAFormats"], exclude: ["Goldens"],
            swiftSettings: swiftSettings),
        .target(name: "CAllocations", path: "Tests/CAllocations"),
        .target(
            name: "TestSupport", dependencies: ["LoRAFormats"], path: "Tests/TestSupport", swiftSettings: swiftSettings),
        .testTarget(
            name: "LoRAModelTests",
            dependencies: [
                "LoRAModel", "LoRAFormats", "CKernels", "CAllocations", "COneDNN", "TestSupport",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            exclude: ["Goldens"],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "LoRATrainingTests",
            dependencies: [
                "LoRATraining", "LoRAModel", "LoRAText", "LoRAFormats", "TestSupport",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            exclude: ["Goldens"],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "FuzzTests",
            dependencies: [
                "LoRAConversion", "LoRAText", "LoRAFormats",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            path: "Fuzz/Sources",
            exclude: ["CFuzzer", "fuzz/EntryPoint.swift"],
            sources: ["Replay", "fuzz/FuzzTarget.swift"],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "LoRAConversionTests",
            dependencies: [
                "LoRAConversion", "LoRAModel", "LoRAText", "LoRAFormats",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            exclude: ["Goldens"],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "LoRAServingTests",
            dependencies: [
                "LoRAServing", "LoRAModel", "LoRAText", "LoRAFormats", "TestSupport",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HummingbirdTesting", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "lora", "LoRAFormats", "TestSupport",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ],
            swiftSettings: swiftSettings
        ),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c11
)
