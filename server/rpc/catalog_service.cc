#include "server/rpc/catalog_service.h"

#include "server/rpc/call.h"

namespace ckpt {

template <typename Call>
grpc::Status CatalogService::With(const Gate::RightsOf& rights, Call call) {
  if (!rights.ok()) return Answer(stop_, rights.status());
  Catalog catalog = catalog_;
  catalog.rights = rights->get();
  return Answer(stop_, call(catalog));
}

grpc::Status CatalogService::ListRuns(grpc::ServerContext* context,
                                      const v1::ListRunsRequest* request,
                                      v1::ListRunsResponse* response) {
  return With(gate_.Enter(*context), [&](Catalog& catalog) {
    return ckpt::ListRuns(catalog, *request, *response);
  });
}

grpc::Status CatalogService::ListCheckpoints(grpc::ServerContext* context,
                                             const v1::ListCheckpointsRequest* request,
                                             v1::ListCheckpointsResponse* response) {
  return With(gate_.Enter(*context, Verb::kRead, request->run()), [&](Catalog& catalog) {
    return ckpt::ListCheckpoints(catalog, *request, *response);
  });
}

grpc::Status CatalogService::GetCheckpoint(grpc::ServerContext* context,
                                           const v1::GetCheckpointRequest* request,
                                           v1::GetCheckpointResponse* response) {
  return With(gate_.Enter(*context, Verb::kRead, request->selector().run()), [&](Catalog& catalog) {
    return ckpt::GetCheckpoint(catalog, *request, CallerGone{context, stop_}, *response);
  });
}

grpc::Status CatalogService::ListTensors(grpc::ServerContext* context,
                                         const v1::ListTensorsRequest* request,
                                         v1::ListTensorsResponse* response) {
  return With(gate_.Enter(*context, Verb::kRead, request->selector().run()), [&](Catalog& catalog) {
    return ckpt::ListTensors(catalog, *request, CallerGone{context, stop_}, *response);
  });
}

grpc::Status CatalogService::DiffCheckpoints(
    grpc::ServerContext* context, const v1::DiffCheckpointsRequest* request,
    grpc::ServerWriter<v1::DiffCheckpointsResponse>* writer) {
  const Gate::RightsOf before = gate_.Enter(*context, Verb::kRead, request->before().run());
  if (!before.ok()) return Answer(stop_, before.status());
  return With(gate_.Enter(*context, Verb::kRead, request->after().run()), [&](Catalog& catalog) {
    return ckpt::DiffCheckpoints(catalog, *request, CallerGone{context, stop_},
                                 [&](const v1::DiffCheckpointsResponse& response) {
                                   return readers_.Write(*context, *writer, response);
                                 });
  });
}

grpc::Status CatalogService::WatchCheckpoints(
    grpc::ServerContext* context, const v1::WatchCheckpointsRequest* request,
    grpc::ServerWriter<v1::WatchCheckpointsResponse>* writer) {
  return With(gate_.Enter(*context), [&](Catalog& catalog) {
    return ckpt::WatchCheckpoints(catalog, *request, CallerGone{context, stop_},
                                  [&](const v1::WatchCheckpointsResponse& change) {
                                    return readers_.Write(*context, *writer, change);
                                  });
  });
}

grpc::Status CatalogService::WaitCheckpoint(grpc::ServerContext* context,
                                            const v1::WaitCheckpointRequest* request,
                                            v1::WaitCheckpointResponse* response) {
  return With(gate_.Enter(*context), [&](Catalog& catalog) {
    return ckpt::WaitCheckpoint(catalog, *request, DeadlineOf(*context), CallerGone{context, stop_},
                                *response);
  });
}

grpc::Status CatalogService::DeleteCheckpoint(grpc::ServerContext* context,
                                              const v1::DeleteCheckpointRequest* request,
                                              v1::DeleteCheckpointResponse* response) {
  return With(gate_.Enter(*context, Verb::kWrite, request->selector().run()),
              [&](Catalog& catalog) {
                return ckpt::DeleteCheckpoint(catalog, *request, CallerGone{context, stop_},
                                              *response);
              });
}

grpc::Status CatalogService::TagCheckpoint(grpc::ServerContext* context,
                                           const v1::TagCheckpointRequest* request,
                                           v1::TagCheckpointResponse* response) {
  return With(gate_.Enter(*context, Verb::kWrite, request->selector().run()),
              [&](Catalog& catalog) {
                return ckpt::TagCheckpoint(catalog, *request, CallerGone{context, stop_},
                                           *response);
              });
}

grpc::Status CatalogService::AnnotateCheckpoint(grpc::ServerContext* context,
                                                const v1::AnnotateCheckpointRequest* request,
                                                v1::AnnotateCheckpointResponse* response) {
  return With(gate_.Enter(*context, Verb::kWrite, request->selector().run()),
              [&](Catalog& catalog) {
                return ckpt::AnnotateCheckpoint(catalog, *request, CallerGone{context, stop_},
                                                *response);
              });
}

grpc::Status CatalogService::VerifyCheckpoint(
    grpc::ServerContext* context, const v1::VerifyCheckpointRequest* request,
    grpc::ServerWriter<v1::VerifyCheckpointResponse>* writer) {
  return With(gate_.Enter(*context, Verb::kRead, request->selector().run()), [&](Catalog& catalog) {
    return ckpt::VerifyCheckpoint(catalog, *request, CallerGone{context, stop_},
                                  [&](const v1::VerifyCheckpointResponse& progress) {
                                    return readers_.Write(*context, *writer, progress);
                                  });
  });
}

}  // namespace ckpt
