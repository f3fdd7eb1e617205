import Hummingbird
import HummingbirdCore
import LoRAFormats
import OrderedCollections

extension Call {
    /// `GET /v1/models`: the base and the adapters that this key may use.
    func models() -> Response {
        guard let key else { return Response(error: .unauthorized) }
        var models = key.allowsBase ? [baseModel] : []
        // The base goes before an adapter of its name, which no request can choose.
        for entry in serving.adapters.entries where key.allows(adapter: entry.name) && entry.name != serving.base.id {
            models.append(json(entry))
        }
        return Response(json: .object(["object": .string("list"), "data": .array(models)]))
    }

    /// `GET /v1/models/{id}`
    func model(_ name: String) throws(APIError) -> Response {
        guard let key, serving.allows(key, model: name) else { throw .modelForbidden(name) }
        if name == serving.base.id { return Response(json: baseModel) }
        guard let entry = serving.adapters.entries.first(where: { $0.name == name }) else { throw .modelNotFound(name) }
        return Response(json: json(entry))
    }

    private var baseModel: JSONValue {
        json(id: serving.base.id, created: serving.base.created, root: serving.base.id, parent: .null)
    }

    private func json(_ entry: AdapterStore.Entry) -> JSONValue {
        json(id: entry.name, created: entry.publishedTime, root: entry.name, parent: .string(serving.base.id))
    }

    private func json(id: String, created: Int, root: String, parent: JSONValue) -> JSONValue {
        .object([
            "id": .string(id), "object": .string("model"), "created": JSONValue(created), "owned_by": .string("lora"),
            "root": .string(root), "parent": parent,
        ])
    }
}
