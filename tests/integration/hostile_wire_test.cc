// What a foreign or hostile client may send: bad names, wrong checksums and offsets, calls out of
// order, tokens that were guessed or belong to a closed session. Each gets a clear error, aborts
// its own part at most, and the daemon works on.
#include <fcntl.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "client/transport/session.h"
#include "common/digest.h"
#include "common/layout.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/raw_save.h"

namespace ckpt::testing {
namespace {

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

class HostileWire : public IntegrationTest {
 protected:
  void TearDown() override {
    // Whatever was sent: the daemon lives, and nothing became visible.
    EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
    CKPT_EXPECT_OK(SaveCommitted(NewId("fine", 1), TestState::Mixed(1), 2));
    CKPT_EXPECT_OK(Check("fine@1", TestState::Mixed(1), 2));
    const absl::StatusOr<v1::GetStatusResponse> status = Status();
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(status->open_saves(), 0u);
  }
  const RawPart part_ = MakeRawPart(TestState::Mixed(1, 3 << 20), 0, 1);
  v1::Begin Begin() { return MakeBegin(NewId("run", 1), part_, 0, 1); }
  absl::Status Prepare(const std::string& token) {
    v1::PrepareRequest request;
    request.set_session_token(token);
    request.set_part_bytes(1000);
    grpc::ClientContext context;
    v1::PrepareResponse response;
    return FromGrpc(v1::SaveService::NewStub(channel())->Prepare(&context, request, &response));
  }
  // A plan of plan@1; its id.
  absl::StatusOr<std::string> Plan(const std::string& token) {
    v1::PlanRestoreRequest request;
    request.mutable_selector()->set_run("plan");
    request.mutable_selector()->set_step(1);
    request.set_session_token(token);
    grpc::ClientContext context;
    const auto stub = v1::RestoreService::NewStub(channel());
    const auto reader = stub->PlanRestore(&context, request);
    v1::PlanRestoreResponse response;
    std::string id;
    while (reader->Read(&response)) {
      if (response.has_header()) id = response.header().plan_id();
    }
    const absl::Status status = FromGrpc(reader->Finish());
    if (!status.ok()) return status;
    return id;
  }
  // The first ten bytes of a plan's first piece.
  absl::Status Read(const std::string& plan_id) {
    v1::ReadPiecesRequest request;
    request.set_plan_id(plan_id);
    request.add_ranges()->set_length(10);
    grpc::ClientContext context;
    const auto stub = v1::RestoreService::NewStub(channel());
    const auto reader = stub->ReadPieces(&context, request);
    v1::ReadPiecesResponse response;
    size_t bytes = 0;
    while (reader->Read(&response)) bytes += response.data().size();
    const absl::Status status = FromGrpc(reader->Finish());
    EXPECT_EQ(bytes, status.ok() ? 10u : 0u);
    return status;
  }
  absl::Status Release(const std::string& plan_id) {
    v1::ReleasePlanRequest request;
    request.set_plan_id(plan_id);
    grpc::ClientContext context;
    v1::ReleasePlanResponse response;
    return FromGrpc(
        v1::RestoreService::NewStub(channel())->ReleasePlan(&context, request, &response));
  }
  // Opens, lets `spoil` send something, and tells how the stream ended.
  template <typename Spoil>
  absl::Status After(Spoil spoil) {
    RawSave save(channel());
    const absl::StatusOr<v1::Accepted> accepted = save.Open(Begin(), part_);
    EXPECT_TRUE(accepted.ok()) << accepted.status();
    spoil(save);
    return save.End();
  }
};

TEST_F(HostileWire, AStreamSaveWithoutASessionWorks) {
  const RawPart part = MakeRawPart(TestState::Mixed(4, 3 << 20), 0, 1);
  RawSave save(channel());
  const CheckpointId id = NewId("raw", 1);
  ASSERT_TRUE(save.Open(MakeBegin(id, part, 0, 1), part).ok());
  CKPT_ASSERT_OK(save.Complete(part));
  const auto committed = Connect()->Wait(id, v1::CHECKPOINT_STATE_COMMITTED, absl::Seconds(60));
  ASSERT_TRUE(committed.ok()) << committed.status();
  CKPT_EXPECT_OK(Check("raw@1", TestState::Mixed(4, 3 << 20)));
}

TEST_F(HostileWire, ABrokenStreamResumesWhereItHadCome) {
  const RawPart part = MakeRawPart(TestState::Mixed(4, 6 << 20), 0, 1);
  const v1::Begin begin = MakeBegin(NewId("raw", 1), part, 0, 1);
  const uint64_t half = part.bytes.size() / 2;
  {
    RawSave save(channel());
    ASSERT_TRUE(save.Open(begin, part).ok());
    save.SendData(0, part.bytes.substr(0, 1 << 20));
    save.SendData(1 << 20, part.bytes.substr(1 << 20, half - (1 << 20)));
    absl::StatusOr<v1::SaveResponse> response = save.Receive();
    while (response.ok() && response->ack().received() < half) response = save.Receive();
    ASSERT_TRUE(response.ok()) << response.status();
  }  // cancelled
  RawSave again(channel());
  const absl::StatusOr<v1::Accepted> accepted = again.Open(begin, part);
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_EQ(accepted->resume_from(), half);
  CKPT_ASSERT_OK(again.Complete(part, accepted->resume_from()));
  CKPT_EXPECT_OK(Check("raw@latest", TestState::Mixed(4, 6 << 20)));
}

TEST_F(HostileWire, AChunkWithAWrongChecksum) {
  CKPT_EXPECT_ERROR(After([this](RawSave& save) {
                      v1::SaveRequest request;
                      request.mutable_data()->set_data(part_.bytes.substr(0, 1000));
                      request.mutable_data()->set_crc32c(12345);
                      save.Send(request);
                    }),
                    absl::StatusCode::kInvalidArgument, "CRC");
}

TEST_F(HostileWire, AChunkAtAWrongOffset) {
  CKPT_EXPECT_ERROR(
      After([this](RawSave& save) { save.SendData(4096, part_.bytes.substr(0, 10)); }),
      absl::StatusCode::kInvalidArgument, "4096");
  CKPT_EXPECT_ERROR(After([this](RawSave& save) {
                      save.SendData(0, part_.bytes.substr(0, 1000));
                      save.SendData(0, part_.bytes.substr(0, 1000));
                    }),
                    absl::StatusCode::kInvalidArgument, "offset");
  CKPT_EXPECT_ERROR(
      After([this](RawSave& save) { save.SendData(UINT64_MAX - 5, part_.bytes.substr(0, 10)); }),
      absl::StatusCode::kInvalidArgument, "offset");
}

TEST_F(HostileWire, MoreThanThePartHolds) {
  const absl::Status status = After([this](RawSave& save) {
    for (uint64_t offset = 0; offset < part_.bytes.size(); offset += 1 << 20) {
      save.SendData(offset, part_.bytes.substr(offset, 1 << 20));
    }
    save.SendData(part_.bytes.size(), "beyond");
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

TEST_F(HostileWire, AnOversizedChunk) {
  const absl::Status status =
      After([](RawSave& save) { save.SendData(0, std::string((2 << 20) + 1, 'x')); });
  EXPECT_FALSE(status.ok());
}

TEST_F(HostileWire, FinishTooEarlyOrWithAnotherLength) {
  const auto refused =
      ::testing::AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(After([this](RawSave& save) { save.SendFinish(part_.bytes.size()); }).code(),
              refused);
  EXPECT_THAT(After([this](RawSave& save) {
                save.SendData(0, part_.bytes.substr(0, 1000));
                save.SendFinish(1000);
              }).code(),
              refused);
}

TEST_F(HostileWire, CallsOutOfOrder) {
  const auto refused =
      ::testing::AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kFailedPrecondition);
  {
    RawSave save(channel());  // data before Begin
    save.SendData(0, "abc");
    EXPECT_THAT(save.End().code(), refused);
  }
  {
    RawSave save(channel());  // an empty message
    save.Send({});
    EXPECT_THAT(save.End().code(), refused);
  }
  EXPECT_THAT(After([this](RawSave& save) { save.SendBegin(Begin()); }).code(), refused);
  EXPECT_THAT(After([this](RawSave& save) {
                save.SendData(0, part_.bytes.substr(0, 10));
                save.SendChunks(v1::Chunk::KIND_VALUES, part_.values);
              }).code(),
              refused);
  EXPECT_THAT(After([](RawSave& save) {
                v1::SaveRequest request;
                request.mutable_progress()->set_written(100);
                save.Send(request);
              }).code(),
              refused);
}

TEST_F(HostileWire, BadNames) {
  std::vector<std::string> runs = {"",
                                   "/",
                                   "a//b",
                                   "/a",
                                   "a/",
                                   ".",
                                   "..",
                                   "../..",
                                   "a/../b",
                                   "a/./b",
                                   "a b",
                                   "a\nb",
                                   "a\\b",
                                   "r\xc3\xb6",
                                   std::string("a\0b", 3),
                                   std::string(201, 'a'),
                                   std::string(10240, 'x'),
                                   "a@1",
                                   "~",
                                   "*"};
  for (const std::string& run : runs) {
    v1::Begin begin = Begin();
    // set as bytes: protobuf strings must be UTF-8, what gRPC lets through is checked all the same
    begin.mutable_id()->set_run(run);
    RawSave save(channel());
    save.SendBegin(begin);
    const absl::Status status = save.End();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << run.substr(0, 40) << status;
    EXPECT_LT(status.message().size(), 1000u);
    const absl::Status from_client = Connect()
                                         ->Save({run, 1, Incarnation::TimeOrdered()},
                                                MakeTestPart(TestState::Plain(1, 10), 0, 1), {})
                                         .status();
    EXPECT_EQ(from_client.code(), absl::StatusCode::kInvalidArgument) << from_client;
  }
  // Nothing was made outside of the folders for any of them.
  for (const std::string& name : daemon().MemoryFiles()) {
    EXPECT_THAT(name, ::testing::Not(::testing::HasSubstr("..")));
  }
}

TEST_F(HostileWire, BadFieldsOfBegin) {
  const auto refuse = [this](absl::FunctionRef<void(v1::Begin&)> spoil) {
    v1::Begin begin = Begin();
    spoil(begin);
    RawSave save(channel());
    save.SendBegin(begin);
    return save.End();
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.set_rank(1); }), invalid, "rank");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.set_world_size(0); }), invalid, "world");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.set_world_size(1 << 30); }), invalid, "world");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.add_share(7); }), invalid, "share");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) {
                      b.set_world_size(4);
                      b.add_share(0);
                      b.add_share(0);
                    }),
                    invalid, "share");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.mutable_id()->set_step(uint64_t{1} << 63); }),
                    invalid, "step");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.mutable_id()->set_incarnation("short"); }), invalid,
                    "incarnation");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.set_request_id("x"); }), invalid, "request");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.set_layout_digest("x"); }), invalid, "digest");
  CKPT_EXPECT_ERROR(refuse([](v1::Begin& b) { b.mutable_join_deadline()->set_seconds(-1); }),
                    invalid, "join");
  EXPECT_FALSE(refuse([](v1::Begin& b) { b.set_transport(static_cast<v1::Transport>(77)); }).ok());
}

TEST_F(HostileWire, BadLayouts) {
  v1::Layout good;
  ASSERT_TRUE(good.ParseFromString(part_.layout));
  const auto refuse = [this](std::string layout, bool right_digest) {
    RawPart part = part_;
    part.layout = std::move(layout);
    part.layout_digest = right_digest ? Sha256(part.layout) : part_.layout_digest;
    RawSave save(channel());
    const absl::StatusOr<v1::Accepted> accepted =
        save.Open(MakeBegin(NewId("run", 1), part, 0, 1), part);
    return accepted.status();
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(refuse("nonsense\xff", true).code(), invalid);
  EXPECT_EQ(refuse("", true).code(), invalid);
  // A digest of something else.
  CKPT_EXPECT_ERROR(refuse(part_.layout.substr(0, part_.layout.size() / 2), false), invalid,
                    "digest");
  const auto spoilt = [&](absl::FunctionRef<void(v1::Layout&)> spoil) {
    v1::Layout layout = good;
    spoil(layout);
    return refuse(layout.SerializeAsString(), true);
  };
  EXPECT_EQ(spoilt([](v1::Layout& l) { l.mutable_shards(0)->set_leaf(1000000); }).code(), invalid);
  EXPECT_EQ(spoilt([](v1::Layout& l) { *l.add_shards() = l.shards(0); }).code(), invalid);
  EXPECT_EQ(spoilt([](v1::Layout& l) {
              l.mutable_shards(0)->mutable_box()->set_extent(0, uint64_t{1} << 62);
            }).code(),
            invalid);
  EXPECT_EQ(
      spoilt([](v1::Layout& l) { l.mutable_leaves(0)->set_dtype(v1::DTYPE_UNSPECIFIED); }).code(),
      invalid);
  EXPECT_EQ(spoilt([](v1::Layout& l) { *l.add_leaves() = l.leaves(0); }).code(), invalid);
  EXPECT_EQ(
      spoilt([](v1::Layout& l) {
        l.mutable_leaves(0)->mutable_key()->mutable_segments(0)->set_name(std::string(100000, 'k'));
      }).code(),
      invalid);
}

TEST_F(HostileWire, TokensThatWereGuessed) {
  v1::Begin begin = Begin();
  begin.set_session_token(std::string(16, 'g'));
  for (const v1::Transport transport : {v1::TRANSPORT_SHARED_MEMORY, v1::TRANSPORT_STREAM}) {
    begin.set_transport(transport);
    RawSave save(channel());
    save.SendBegin(begin);
    EXPECT_EQ(save.End().code(), absl::StatusCode::kUnauthenticated);
  }
  {  // shared memory without any session
    v1::Begin bare = Begin();
    bare.set_transport(v1::TRANSPORT_SHARED_MEMORY);
    RawSave save(channel());
    save.SendBegin(bare);
    EXPECT_FALSE(save.End().ok());
  }
  for (const std::string& token : {std::string(16, 'g'), std::string(), std::string("short")}) {
    EXPECT_EQ(Prepare(token).code(), absl::StatusCode::kUnauthenticated);
  }
  CKPT_ASSERT_OK(SaveCommitted(NewId("plan", 1), TestState::Plain(1, 10000), 1));
  for (const std::string& token : {std::string(16, 'g'), std::string("short")}) {
    EXPECT_EQ(Plan(token).status().code(), absl::StatusCode::kUnauthenticated);
  }
}

TEST_F(HostileWire, TokensThatOutliveTheirSession) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("plan", 1), TestState::Plain(1, 10000), 1));
  DropClients();
  absl::StatusOr<std::shared_ptr<Session>> session = Session::Connect(daemon().socket(), "hostile");
  ASSERT_TRUE(session.ok()) << session.status();
  const std::string token = (*session)->token();
  const auto begin = [&](v1::Transport transport) {
    v1::Begin message = Begin();
    message.set_session_token(token);
    message.set_transport(transport);
    RawSave save(channel());
    return save.Open(message, part_).status();
  };
  // While the session is open, each of them is let in.
  CKPT_EXPECT_OK(begin(v1::TRANSPORT_STREAM));
  CKPT_EXPECT_OK(Prepare(token));
  CKPT_EXPECT_OK(Plan(token).status());
  session->reset();
  CKPT_ASSERT_OK(Eventually("the daemon has noticed that the session is over", [this] {
    const absl::StatusOr<v1::GetStatusResponse> status = Status();
    return status.ok() && status->sessions() == 0;
  }));
  const auto unknown = absl::StatusCode::kUnauthenticated;
  CKPT_EXPECT_ERROR(begin(v1::TRANSPORT_STREAM), unknown, "session_token");
  CKPT_EXPECT_ERROR(begin(v1::TRANSPORT_SHARED_MEMORY), unknown, "session_token");
  CKPT_EXPECT_ERROR(Prepare(token), unknown, "session_token");
  CKPT_EXPECT_ERROR(Plan(token).status(), unknown, "session_token");
}

TEST_F(HostileWire, ATicketUsedTwice) {
  const auto connect = [this](const char* name) {
    absl::StatusOr<std::shared_ptr<Session>> session = Session::Connect(daemon().socket(), name);
    EXPECT_TRUE(session.ok()) << session.status();
    return *std::move(session);
  };
  const std::shared_ptr<Session> owner = connect("owner"), thief = connect("thief");
  const RawPart part = MakeRawPart(TestState::Mixed(4, 3 << 20), 0, 1);
  v1::Begin begin = MakeBegin(NewId("raw", 1), part, 0, 1);
  begin.set_session_token(owner->token());
  RawSave save(channel());
  ASSERT_TRUE(save.Open(begin, part).ok());
  // The same request_id over another session, and over none: refused, and the part is left alone.
  for (const std::string& token : {thief->token(), std::string()}) {
    v1::Begin replayed = begin;
    replayed.set_session_token(token);
    RawSave again(channel());
    CKPT_EXPECT_ERROR(again.Open(replayed, part).status(), absl::StatusCode::kFailedPrecondition,
                      "another session");
  }
  CKPT_ASSERT_OK(save.Complete(part));
  // Once it is staged a replay learns that, and changes nothing.
  begin.set_session_token(thief->token());
  RawSave late(channel());
  ASSERT_TRUE(late.SendBegin(begin));
  const absl::StatusOr<v1::SaveResponse> accepted = late.Receive();
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_EQ(accepted->accepted().resume_from(), part.bytes.size());
  late.SendData(0, std::string(1000, 'x'));
  EXPECT_FALSE(late.End().ok());
  CKPT_EXPECT_OK(Check("raw@latest", TestState::Mixed(4, 3 << 20)));
  CKPT_EXPECT_OK(Verify("raw@1"));
}

TEST_F(HostileWire, PlansThatWereReleasedOrNeverWere) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("plan", 1), TestState::Plain(1, 10000), 1));
  const absl::StatusOr<std::string> plan = Plan("");
  ASSERT_TRUE(plan.ok()) << plan.status();
  CKPT_EXPECT_OK(Read(*plan));
  CKPT_EXPECT_OK(Release(*plan));
  CKPT_EXPECT_ERROR(Read(*plan), absl::StatusCode::kNotFound, "plan");
  CKPT_EXPECT_OK(Release(*plan));  // idempotent
  const std::string never(16, 'p');
  CKPT_EXPECT_ERROR(Read(never), absl::StatusCode::kNotFound, "plan");
  CKPT_EXPECT_OK(Release(never));
  for (const std::string& malformed : {std::string(), std::string("short"), std::string(17, 'p')}) {
    CKPT_EXPECT_ERROR(Read(malformed), absl::StatusCode::kInvalidArgument, "plan_id");
    CKPT_EXPECT_ERROR(Release(malformed), absl::StatusCode::kInvalidArgument, "plan_id");
  }
}

TEST_F(HostileWire, ASessionsPlansEndWithIt) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("plan", 1), TestState::Plain(1, 10000), 1));
  absl::StatusOr<std::shared_ptr<Session>> session = Session::Connect(daemon().socket(), "hostile");
  ASSERT_TRUE(session.ok()) << session.status();
  const absl::StatusOr<std::string> plan = Plan((*session)->token());
  ASSERT_TRUE(plan.ok()) << plan.status();
  CKPT_EXPECT_OK(Read(*plan));
  session->reset();
  CKPT_EXPECT_OK(Eventually("the plan is gone", [&] { return absl::IsNotFound(Read(*plan)); }));
}

TEST_F(HostileWire, BadSelectors) {
  v1::GetCheckpointRequest request;
  const auto get = [this](const v1::GetCheckpointRequest& asked) {
    grpc::ClientContext context;
    v1::GetCheckpointResponse response;
    return v1::CatalogService::NewStub(channel())
        ->GetCheckpoint(&context, asked, &response)
        .error_code();
  };
  EXPECT_EQ(get(request), grpc::StatusCode::INVALID_ARGUMENT);
  request.mutable_selector()->set_run("../../etc");
  request.mutable_selector()->set_step(1);
  EXPECT_EQ(get(request), grpc::StatusCode::INVALID_ARGUMENT);
  request.mutable_selector()->set_run("run");
  request.mutable_selector()->set_tag("../x");
  EXPECT_EQ(get(request), grpc::StatusCode::INVALID_ARGUMENT);
  request.mutable_selector()->set_step(1);
  request.mutable_selector()->set_incarnation("abc");
  EXPECT_EQ(get(request), grpc::StatusCode::INVALID_ARGUMENT);
}

// Protobuf, and gRPC, write lines of their own for what a client sends.
TEST_F(HostileWire, WhatLibrariesSayFillsNoLogAndForgesNoLine) {
  v1::ClientFrame frame;
  frame.mutable_hello()->set_client_name("name");
  std::string payload = frame.SerializeAsString();
  payload[payload.find("name")] = '\xff';
  const std::string bytes =
      std::string(1, static_cast<char>(payload.size())) + std::string(3, '\0') + payload;
  for (int i = 0; i < 500; ++i) {
    const absl::StatusOr<Descriptor> session = ConnectUnixSocket(daemon().socket() + ".fd");
    ASSERT_TRUE(session.ok()) << session.status();
    ASSERT_EQ(write(session->number(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
    char answer[64];
    while (read(session->number(), answer, sizeof(answer)) > 0) {
    }
  }
  int said = 0;
  const std::string log = daemon().Log();
  for (const absl::string_view line : absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    EXPECT_TRUE(absl::StartsWith(line, "20")) << line;  // the time
    if (absl::StrContains(line, "UTF-8")) ++said;
  }
  EXPECT_GT(said, 0);
  EXPECT_LT(said, 400);
}

}  // namespace
}  // namespace ckpt::testing
