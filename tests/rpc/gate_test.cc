// Who is let into which call: two tenants, a reader and an operator with tokens, over TCP and over
// a unix socket that gives no rights by itself.
#include "server/rpc/gate.h"

#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/strings/str_replace.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "ckpt/v1/retention.grpc.pb.h"
#include "common/digest.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "server/rpc/catalog_service.h"
#include "server/rpc/page_token.h"
#include "server/rpc/restore_service.h"
#include "server/rpc/retention_service.h"
#include "tests/rpc/rpc_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kMine[] = "team-a/llama";
constexpr char kTheirs[] = "team-b/llama";   // there, and not for team-a
constexpr char kNowhere[] = "team-b/lloma";  // not there

class GateTest : public RpcTest {
 protected:
  GateTest() {
    std::ofstream tokens(scratch_.path() + "/tokens");
    for (const auto& [token, rule] : std::vector<std::pair<std::string, std::string>>{
             {"a", "team-a team-a/** read,write"},
             {"b", "team-b team-b/** read,write"},
             {"reader", "reader ** read"},
             {"ops", "ops ** admin"}}) {
      tokens << absl::BytesToHexString(Sha256(token)) << " " << rule << "\n";
    }
    tokens.close();
    auto gatekeeper = Gatekeeper::Open(
        {.socket_rights = std::nullopt, .token_file = scratch_.path() + "/tokens"});
    EXPECT_TRUE(gatekeeper.ok()) << gatekeeper.status();
    gatekeeper_ = *std::move(gatekeeper);
    const Gate gate(gatekeeper_.get(), finder_.get());
    catalog_service_ = std::make_unique<CatalogService>(catalog_.get(), gate, &stop_, &readers_);
    retention_service_ =
        std::make_unique<RetentionService>(retention_.get(), finder_.get(), gate, &stop_,
                                           &readers_);
    restore_service_ = std::make_unique<RestoreService>(restore_, gate, &stop_, &readers_);
    grpc::ServerBuilder builder;
    const std::string socket = "unix:" + scratch_.path() + "/s";
    int port = 0;
    builder.AddListeningPort(socket, grpc::InsecureServerCredentials());
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(catalog_service_.get());
    builder.RegisterService(retention_service_.get());
    builder.RegisterService(restore_service_.get());
    server_ = builder.BuildAndStart();
    socket_ = grpc::CreateChannel(socket, grpc::InsecureChannelCredentials());
    tcp_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                               grpc::InsecureChannelCredentials());
    for (const char* run : {kMine, "team-a/vision", kTheirs, "team-b/secret"}) {
      Save({run, 1, Incarnation::TimeOrdered()});
    }
  }
  ~GateTest() override {
    stop_.Stop();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  static void As(grpc::ClientContext& context, const std::string& token) {
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  }

  // Every call that names a run, by name.
  using Call = std::function<grpc::Status(const std::string& token, const std::string& run)>;
  template <typename Request, typename Response, typename Stub>
  Call Unary(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
             std::unique_ptr<Stub> stub, std::function<Request(const std::string&)> ask) {
    return [method, stub = std::shared_ptr<Stub>(std::move(stub)), ask](const std::string& token,
                                                                        const std::string& run) {
      grpc::ClientContext context;
      As(context, token);
      Response response;
      return ((*stub).*method)(&context, ask(run), &response);
    };
  }
  template <typename Response, typename Open>
  static grpc::Status ReadAll(const std::string& token, Open open) {
    grpc::ClientContext context;
    As(context, token);
    const auto reader = open(&context);
    Response response;
    while (reader->Read(&response)) {
    }
    return reader->Finish();
  }
  template <typename Request>
  static Request ByStep(const std::string& run) {
    Request request;
    *request.mutable_selector() = StepOf(run, 1);
    return request;
  }

  std::vector<std::pair<std::string, Call>> Reads() {
    using Catalog = v1::CatalogService;
    return {
        {"ListCheckpoints", Unary<v1::ListCheckpointsRequest, v1::ListCheckpointsResponse>(
                                &Catalog::Stub::ListCheckpoints, Catalog::NewStub(tcp_),
                                [](const std::string& run) {
                                  v1::ListCheckpointsRequest request;
                                  request.set_run(run);
                                  return request;
                                })},
        {"GetCheckpoint", Unary<v1::GetCheckpointRequest, v1::GetCheckpointResponse>(
                              &Catalog::Stub::GetCheckpoint, Catalog::NewStub(tcp_),
                              &ByStep<v1::GetCheckpointRequest>)},
        {"ListTensors", Unary<v1::ListTensorsRequest, v1::ListTensorsResponse>(
                            &Catalog::Stub::ListTensors, Catalog::NewStub(tcp_),
                            &ByStep<v1::ListTensorsRequest>)},
        {"WaitCheckpoint", Unary<v1::WaitCheckpointRequest, v1::WaitCheckpointResponse>(
                               &Catalog::Stub::WaitCheckpoint, Catalog::NewStub(tcp_),
                               [](const std::string& run) {
                                 v1::WaitCheckpointRequest request;
                                 request.mutable_id()->set_run(run);
                                 request.mutable_id()->set_step(1);
                                 request.set_state(v1::CHECKPOINT_STATE_COMMITTED);
                                 return request;
                               })},
        {"DiffCheckpoints",
         [this](const std::string& token, const std::string& run) {
           v1::DiffCheckpointsRequest request;
           *request.mutable_before() = StepOf(run, 1);
           *request.mutable_after() = StepOf(run, 1);
           const auto stub = v1::CatalogService::NewStub(tcp_);
           return ReadAll<v1::DiffCheckpointsResponse>(token, [&](grpc::ClientContext* context) {
             return stub->DiffCheckpoints(context, request);
           });
         }},
        {"VerifyCheckpoint",
         [this](const std::string& token, const std::string& run) {
           const auto stub = v1::CatalogService::NewStub(tcp_);
           return ReadAll<v1::VerifyCheckpointResponse>(token, [&](grpc::ClientContext* context) {
             return stub->VerifyCheckpoint(context, ByStep<v1::VerifyCheckpointRequest>(run));
           });
         }},
        {"PlanRestore",
         [this](const std::string& token, const std::string& run) {
           const auto stub = v1::RestoreService::NewStub(tcp_);
           return ReadAll<v1::PlanRestoreResponse>(token, [&](grpc::ClientContext* context) {
             return stub->PlanRestore(context, ByStep<v1::PlanRestoreRequest>(run));
           });
         }},
        {"PlanRetention",
         [this](const std::string& token, const std::string& run) {
           v1::PlanRetentionRequest request;
           request.set_run(run);
           const auto stub = v1::RetentionService::NewStub(tcp_);
           return ReadAll<v1::PlanRetentionResponse>(token, [&](grpc::ClientContext* context) {
             return stub->PlanRetention(context, request);
           });
         }},
        {"GetRetention", Unary<v1::GetRetentionRequest, v1::GetRetentionResponse>(
                             &v1::RetentionService::Stub::GetRetention,
                             v1::RetentionService::NewStub(tcp_),
                             [](const std::string& run) {
                               v1::GetRetentionRequest request;
                               request.set_run(run);
                               return request;
                             })},
    };
  }
  std::vector<std::pair<std::string, Call>> Writes() {
    using Catalog = v1::CatalogService;
    return {
        {"TagCheckpoint", Unary<v1::TagCheckpointRequest, v1::TagCheckpointResponse>(
                              &Catalog::Stub::TagCheckpoint, Catalog::NewStub(tcp_),
                              [](const std::string& run) {
                                auto request = ByStep<v1::TagCheckpointRequest>(run);
                                request.add_add("best");
                                return request;
                              })},
        {"AnnotateCheckpoint", Unary<v1::AnnotateCheckpointRequest, v1::AnnotateCheckpointResponse>(
                                   &Catalog::Stub::AnnotateCheckpoint, Catalog::NewStub(tcp_),
                                   [](const std::string& run) {
                                     auto request = ByStep<v1::AnnotateCheckpointRequest>(run);
                                     request.set_note("seen");
                                     return request;
                                   })},
        // The last: it takes the checkpoint away.
        {"DeleteCheckpoint", Unary<v1::DeleteCheckpointRequest, v1::DeleteCheckpointResponse>(
                                 &Catalog::Stub::DeleteCheckpoint, Catalog::NewStub(tcp_),
                                 &ByStep<v1::DeleteCheckpointRequest>)},
    };
  }
  Call SetRetention() {
    return Unary<v1::SetRetentionRequest, v1::SetRetentionResponse>(
        &v1::RetentionService::Stub::SetRetention, v1::RetentionService::NewStub(tcp_),
        [](const std::string& run) {
          v1::SetRetentionRequest request;
          request.set_run(run);
          request.mutable_policy()->set_keep_last(1000);
          return request;
        });
  }
  std::vector<std::pair<std::string, Call>> AllCalls() {
    auto calls = Reads();
    calls.emplace_back("SetRetention", SetRetention());
    for (auto& call : Writes()) calls.push_back(std::move(call));
    return calls;
  }

  std::vector<std::string> Runs(const std::string& token, uint32_t page_size,
                                std::vector<std::string>* page_tokens = nullptr) {
    const auto stub = v1::CatalogService::NewStub(tcp_);
    std::vector<std::string> names;
    v1::ListRunsRequest request;
    request.set_page_size(page_size);
    do {
      grpc::ClientContext context;
      As(context, token);
      v1::ListRunsResponse response;
      const grpc::Status status = stub->ListRuns(&context, request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
      for (const v1::RunInfo& run : response.runs()) names.push_back(run.run());
      const bool more = !response.next_page_token().empty();
      EXPECT_EQ(static_cast<uint32_t>(response.runs_size()) == page_size || !more, true)
          << "a page that is not the last is full";
      request.set_page_token(response.next_page_token());
      if (page_tokens != nullptr) page_tokens->push_back(response.next_page_token());
    } while (!request.page_token().empty());
    return names;
  }

  StopSignal stop_;
  std::unique_ptr<Gatekeeper> gatekeeper_;
  StalledReaders readers_;
  std::unique_ptr<CatalogService> catalog_service_;
  std::unique_ptr<RetentionService> retention_service_;
  std::unique_ptr<RestoreService> restore_service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> socket_;
  std::shared_ptr<grpc::Channel> tcp_;
};

TEST_F(GateTest, WhatOneMayNotReadIsAnsweredAsIfItWereNotThere) {
  for (const auto& [name, call] : AllCalls()) {
    const grpc::Status hidden = call("a", kTheirs);
    const grpc::Status nowhere = call("a", kNowhere);
    EXPECT_EQ(hidden.error_code(), grpc::StatusCode::NOT_FOUND) << name;
    EXPECT_EQ(nowhere.error_code(), grpc::StatusCode::NOT_FOUND) << name;
    EXPECT_EQ(absl::StrReplaceAll(hidden.error_message(), {{kTheirs, "RUN"}}),
              absl::StrReplaceAll(nowhere.error_message(), {{kNowhere, "RUN"}}))
        << name;
    EXPECT_THAT(hidden.error_message(), Not(HasSubstr("secret"))) << name;
  }
}

// To the letter what is said of a run that he might read, if it were there. Both names are far from
// all others, so that the nearest ones do not depend on them.
TEST_F(GateTest, AHiddenRunAndAMissingOneAreToldAlike) {
  const std::string missing = "team-a/0123456789-0123456789-0123456789";
  const std::string hidden = "team-b/0123456789-0123456789-0123456789";
  Save({hidden, 1, Incarnation::TimeOrdered()});
  for (const auto& [name, call] : AllCalls()) {
    if (name == "GetRetention" || name == "SetRetention") continue;  // the run need not be there
    const grpc::Status of_missing = call("a", missing);
    const grpc::Status of_hidden = call("a", hidden);
    EXPECT_EQ(of_missing.error_code(), grpc::StatusCode::NOT_FOUND) << name;
    EXPECT_EQ(of_hidden.error_code(), grpc::StatusCode::NOT_FOUND) << name;
    EXPECT_EQ(absl::StrReplaceAll(of_missing.error_message(), {{missing, "RUN"}}),
              absl::StrReplaceAll(of_hidden.error_message(), {{hidden, "RUN"}}))
        << name;
    EXPECT_THAT(of_missing.error_message(), Not(HasSubstr("team-b"))) << name;
  }
}

TEST_F(GateTest, WhoMayReadAndNotChangeIsToldSo) {
  auto calls = Writes();
  calls.emplace_back("SetRetention", SetRetention());
  for (const auto& [name, call] : calls) {
    const grpc::Status denied = call("reader", kMine);
    EXPECT_EQ(denied.error_code(), grpc::StatusCode::PERMISSION_DENIED) << name;
    EXPECT_THAT(denied.error_message(),
                AllOf(HasSubstr(kMine), HasSubstr("token reader"),
                      HasSubstr(name == "SetRetention" ? "admin rights" : "write rights")))
        << name;
  }
  EXPECT_EQ(SetRetention()("a", kMine).error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(GateTest, WhoMayMay) {
  for (const auto& [name, call] : Reads()) {
    EXPECT_TRUE(call("a", kMine).ok()) << name << ": " << call("a", kMine).error_message();
    EXPECT_TRUE(call("reader", kTheirs).ok()) << name;
  }
  EXPECT_TRUE(SetRetention()("ops", kMine).ok());
  for (const auto& [name, call] : Writes()) EXPECT_TRUE(call("a", kMine).ok()) << name;
  for (const auto& [name, call] : Writes()) EXPECT_TRUE(call("ops", kTheirs).ok()) << name;
}

TEST_F(GateTest, WithoutATokenOrWithAWrongOneNoCallIsServed) {
  for (const auto& [name, call] : AllCalls()) {
    for (const char* token : {"", "c"}) {
      const grpc::Status refused = call(token, kMine);
      EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAUTHENTICATED) << name;
      EXPECT_THAT(refused.error_message(), HasSubstr("CKPTD_TOKEN")) << name;
    }
  }
  const auto stub = v1::CatalogService::NewStub(socket_);
  for (const char* token : {"", "c", "a"}) {
    grpc::ClientContext context;
    As(context, token);
    v1::ListRunsResponse response;
    EXPECT_EQ(stub->ListRuns(&context, {}, &response).error_code(),
              std::string(token) == "a" ? grpc::StatusCode::OK : grpc::StatusCode::UNAUTHENTICATED);
  }
}

TEST_F(GateTest, ARunsNameIsCheckedBeforeAnythingElse) {
  for (const auto& [name, call] : AllCalls()) {
    EXPECT_EQ(call("a", "../etc").error_code(), grpc::StatusCode::INVALID_ARGUMENT) << name;
  }
}

TEST_F(GateTest, ADiffNeedsBoth) {
  const auto diff = [&](const std::string& before, const std::string& after) {
    v1::DiffCheckpointsRequest request;
    *request.mutable_before() = StepOf(before, 1);
    *request.mutable_after() = StepOf(after, 1);
    const auto stub = v1::CatalogService::NewStub(tcp_);
    return ReadAll<v1::DiffCheckpointsResponse>("a", [&](grpc::ClientContext* context) {
      return stub->DiffCheckpoints(context, request);
    });
  };
  EXPECT_EQ(diff(kMine, kTheirs).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(diff(kTheirs, kMine).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(diff(kMine, "team-a/vision").ok());
}

TEST_F(GateTest, RunsAreListedByWhoMayReadThemPageByPage) {
  for (int i = 0; i < 5; ++i) {  // hidden ones before, between and behind
    Save({absl::StrCat("a-hidden/", i), 1, Incarnation::TimeOrdered()});
    Save({absl::StrCat("team-a/between", i), 1, Incarnation::TimeOrdered()});
    Save({absl::StrCat("team-aa/", i), 1, Incarnation::TimeOrdered()});
  }
  live_.Add({"team-b/live", 2, Incarnation::TimeOrdered()}, v1::CHECKPOINT_STATE_WRITING);
  live_.Add({"team-a/zlive", 2, Incarnation::TimeOrdered()}, v1::CHECKPOINT_STATE_WRITING);
  const std::vector<std::string> all = Runs("a", 100);
  EXPECT_THAT(all, ElementsAre("team-a/between0", "team-a/between1", "team-a/between2",
                               "team-a/between3", "team-a/between4", kMine, "team-a/vision",
                               "team-a/zlive"));
  for (const uint32_t page_size : {1u, 2u, 3u, 7u, 8u}) {
    std::vector<std::string> tokens;
    EXPECT_EQ(Runs("a", page_size, &tokens), all) << page_size;
    for (const std::string& token : tokens) {
      std::string bytes;
      ASSERT_TRUE(absl::WebSafeBase64Unescape(token, &bytes));
      EXPECT_THAT(bytes, AllOf(Not(HasSubstr("hidden")), Not(HasSubstr("team-b")),
                               Not(HasSubstr("team-aa"))));
    }
  }
  EXPECT_EQ(Runs("reader", 100).size(), 21u);
}

TEST_F(GateTest, AWatchShowsWhatMayBeRead) {
  const auto stub = v1::CatalogService::NewStub(tcp_);
  for (const std::string& run : {std::string(), std::string(kTheirs), std::string(kNowhere)}) {
    grpc::ClientContext context;
    As(context, "a");
    v1::WatchCheckpointsRequest request;
    request.set_run(run);
    const size_t watchers = live_.subscribers();
    const auto reader = stub->WatchCheckpoints(&context, request);
    std::vector<std::string> shown;
    v1::WatchCheckpointsResponse change;
    while (reader->Read(&change) && !change.snapshot_end()) {
      shown.push_back(change.checkpoint().id().run());
    }
    if (run.empty()) {
      EXPECT_THAT(shown, ElementsAre(kMine, "team-a/vision"));
    } else {
      EXPECT_THAT(shown, ElementsAre()) << "as a run that is not there";
    }
    EXPECT_GT(live_.subscribers(), watchers);
    // A change of theirs, then one of mine, which is the first that comes.
    v1::CheckpointInfo info;
    *info.mutable_id() = CheckpointId{kTheirs, 2, Incarnation::TimeOrdered()}.ToProto();
    live_.Announce(info, false);
    if (run.empty()) {
      *info.mutable_id() = CheckpointId{kMine, 2, Incarnation::TimeOrdered()}.ToProto();
      live_.Announce(info, false);
      ASSERT_TRUE(reader->Read(&change));
      EXPECT_EQ(change.checkpoint().id().run(), kMine);
    }
    context.TryCancel();
    while (reader->Read(&change)) {
      EXPECT_EQ(change.checkpoint().id().run(), kMine);
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    // The daemon's side notices a little later; the next round counts.
    while (live_.subscribers() > watchers) absl::SleepFor(absl::Milliseconds(1));
  }
}

// Page tokens are checked, not signed: one that names another run's checkpoint is worth nothing.
TEST_F(GateTest, AForgedPageTokenDoesNotReachIntoAnotherRun) {
  const CheckpointUid theirs = Save({"team-b/pages", 1, Incarnation::TimeOrdered()});
  v1::ListTensorsRequest request = ByStep<v1::ListTensorsRequest>(kMine);
  const std::string question =
      absl::StrCat("ListTensors ", request.selector().SerializeAsString(), " ",
                   request.selection().SerializeAsString());
  request.set_page_token(
      MakePageToken(question, theirs.bytes() + std::string(4, '\0') + std::string("a")));
  grpc::ClientContext context;
  As(context, "a");
  v1::ListTensorsResponse response;
  const auto stub = v1::CatalogService::NewStub(tcp_);
  EXPECT_EQ(stub->ListTensors(&context, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(response.tensors_size(), 0);
}

}  // namespace
}  // namespace ckpt
