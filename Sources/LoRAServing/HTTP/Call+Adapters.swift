import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import LoRAFormats
import OrderedCollections

extension Call {
    /// `GET /lora-adapters`: llama-server's fields first, then what people want to know.
    func adapterTable() -> Response {
        let entries = serving.adapters.entries
        let requests = serving.requests(of: entries.map(\.name))
        let rows = entries.enumerated().map { index, entry in
            JSONValue.object([
                "id": JSONValue(index), "path": .string(entry.path), "scale": .number(1),
                "name": .string(entry.name), "version": .string(String(entry.digest.prefix(12))),
                "bytes": JSONValue(entry.fileBytes), "rank": JSONValue(entry.rank),
                "requests": JSONValue(requests[entry.name] ?? 0), "swaps": JSONValue(entry.swaps),
                "swapped": JSONValue(entry.publishedTime), "loaded": .bool(entry.isLoaded),
                "pinned": .bool(entry.isPinned), "failure": entry.failure.map(JSONValue.string) ?? .null,
            ])
        }
        let rejected = serving.adapters.rejected.sorted { $0.key < $1.key }.enumerated().map { index, file in
            JSONValue.object([
                "id": JSONValue(rows.count + index), "path": .string(file.key + ".lora"), "scale": .number(0),
                "name": .string(file.key), "version": .null, "loaded": .bool(false), "failure": .string(file.value),
            ])
        }
        return Response(json: .array(rows + rejected))
    }

    /// `POST /v1/load_lora_adapter {lora_name, lora_path, load_inplace}`, as vLLM has it.
    func loadAdapter() async throws -> Response {
        let fields = try RequestFields(try await json(), rules: FieldTables.loading)
        let (name, path) = (try fields.required("lora_name"), try fields.required("lora_path"))
        let replaces = try fields.flag("load_inplace")
        guard name != serving.base.id else {
            throw APIError.badRequest(
                "\(FormatError.quoted(name)) is the base's name", param: "lora_name", code: "already_loaded")
        }
        do throws(AdapterStore.Failure) {
            try await serving.adapters.load(name: name, path: path, replaces: replaces)
        } catch {
            throw administrative(error, missing: "file", param: "lora_path")
        }
        logger.info("adapter loaded", metadata: ["adapter": "\(name)"])
        return Response(text: "Success: LoRA adapter '\(name)' added successfully.", type: "text/plain")
    }

    /// `POST /v1/unload_lora_adapter {lora_name}`
    func unloadAdapter() async throws -> Response {
        let fields = try RequestFields(try await json(), rules: FieldTables.unloading)
        let name = try fields.required("lora_name")
        do throws(AdapterStore.Failure) { try serving.adapters.unload(name: name) } catch {
            throw administrative(error, missing: "adapter", param: "lora_name")
        }
        logger.info("adapter unloaded", metadata: ["adapter": "\(name)"])
        return Response(text: "Success: LoRA adapter '\(name)' removed successfully.", type: "text/plain")
    }

    /// An administrator named the adapter or the file, so a file that cannot be used is a bad request.
    /// - Parameters:
    ///   - missing: what there is none of when the failure is `unknown`.
    ///   - param: the field that names it.
    private func administrative(_ failure: AdapterStore.Failure, missing: String, param: String) -> APIError {
        var error = APIError(failure)
        switch failure {
        case .unusable: (error.status, error.type) = (.badRequest, "invalid_request_error")
        case .unknown(let name):
            error.message = "there is no \(missing) \(FormatError.quoted(name))"
            error.param = param
        default: break
        }
        return error
    }
}
