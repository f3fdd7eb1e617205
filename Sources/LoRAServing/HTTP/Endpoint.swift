import Foundation
import HTTPTypes

/// What the server offers.
enum Endpoint: Equatable {
    case page, health, ready, metrics
    case models
    case model(String)
    case chat, completions
    case loadAdapter, unloadAdapter, adapters

    /// Who may use it.
    enum Audience {
        case everyone
        case anyKey
        /// With a keys file, an admin's key.
        case admin
        /// Never without a keys file: it changes what the server does.
        case adminOnly
    }

    /// nil for paths that are not offered.
    init?(path: String) {
        switch path {
        case "/": self = .page
        case "/health": self = .health
        case "/ready": self = .ready
        case "/metrics": self = .metrics
        case "/v1/models": self = .models
        case "/v1/chat/completions": self = .chat
        case "/v1/completions": self = .completions
        case "/v1/load_lora_adapter": self = .loadAdapter
        case "/v1/unload_lora_adapter": self = .unloadAdapter
        case "/lora-adapters": self = .adapters
        default:
            let prefix = "/v1/models/"
            guard path.hasPrefix(prefix), let name = String(path.dropFirst(prefix.count)).removingPercentEncoding,
                !name.isEmpty
            else { return nil }
            self = .model(name)
        }
    }

    /// The method that it takes. Where that is GET, HEAD is answered too.
    var method: HTTPRequest.Method {
        switch self {
        case .chat, .completions, .loadAdapter, .unloadAdapter: .post
        default: .get
        }
    }

    var audience: Audience {
        switch self {
        case .page, .health, .ready: .everyone
        case .models, .model, .chat, .completions: .anyKey
        case .metrics, .adapters: .admin
        case .loadAdapter, .unloadAdapter: .adminOnly
        }
    }
}
