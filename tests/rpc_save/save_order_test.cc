// What save.proto forbids. Each is an error of its own kind, and aborts the part.
#include "tests/rpc_save/save_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class SaveOrderTest : public SaveServiceTest {
 protected:
  void ExpectRefused(SaveCall& call, grpc::StatusCode code, const std::string& text) {
    const grpc::Status status = call.End();
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(text));
  }
  void ExpectAborted(uint64_t step) { EXPECT_TRUE(absl::IsAborted(Committed(step))); }
};

TEST_F(SaveOrderTest, AnythingBeforeBegin) {
  SaveCall call(*stub_);
  call.Data(0, "x");
  ExpectRefused(call, grpc::INVALID_ARGUMENT, "starts with Begin");
  SaveCall nothing(*stub_);
  EXPECT_EQ(nothing.WritesDoneAndEnd().error_code(), grpc::INVALID_ARGUMENT);
}

TEST_F(SaveOrderTest, ASecondBegin) {
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  call.Begin(MakeBegin(1, 0, 1, *layout_));
  ExpectRefused(call, grpc::INVALID_ARGUMENT, "Begin after Accepted");
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, DataWhereTheLayoutIsExpected) {
  SaveCall call(*stub_);
  call.Begin(MakeBegin(1, 0, 1, *layout_));
  ASSERT_TRUE(call.Read().has_need_plan());
  call.Data(0, "x");
  ExpectRefused(call, grpc::INVALID_ARGUMENT, "Data before Accepted");
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, WrongCrc) {
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  call.Data(0, "some bytes", 12345);
  ExpectRefused(call, grpc::INVALID_ARGUMENT, "offset 0 fails its CRC-32C");
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, WrongOffset) {
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  call.Data(7, "some bytes");
  ExpectRefused(call, grpc::INVALID_ARGUMENT, "where offset 0 comes next");
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, MoreDataThanThePartHas) {
  auto small = PlainLayout(100);
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 1, *small), *small);
  call.Data(0, std::string(101, 'x'));
  ExpectRefused(call, grpc::INVALID_ARGUMENT, "beyond the credit");
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, OversizedAndEmptyChunks) {
  SaveCall big(*stub_);
  big.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  big.Data(0, std::string(kChunkBytesMax + 1, 'x'));
  ExpectRefused(big, grpc::INVALID_ARGUMENT, "are allowed");
  SaveCall empty(*stub_);
  empty.Open(MakeBegin(2, 0, 1, *layout_), *layout_);
  empty.Data(0, "");
  ExpectRefused(empty, grpc::INVALID_ARGUMENT, "are allowed");
}

TEST_F(SaveOrderTest, ValuesAfterData) {
  auto layout = LayoutMaker().PerRank("t", 1000).PerRankValue("epoch").Make();
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 1, *layout), *layout);
  call.Data(0, "some");
  call.Chunk(v1::Chunk::KIND_VALUES, 0, "", true);
  ExpectRefused(call, grpc::FAILED_PRECONDITION, "values must come before");
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, ValuesThatAreNone) {
  SaveCall garbage(*stub_);
  garbage.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  garbage.Chunk(v1::Chunk::KIND_VALUES, 0, std::string(20, '\xff'), true);
  ExpectRefused(garbage, grpc::INVALID_ARGUMENT, "no serialized Values");
  SaveCall stray(*stub_);
  stray.Open(MakeBegin(2, 0, 1, *layout_), *layout_);
  v1::Values values;
  values.add_entries()->set_leaf(99);
  values.mutable_entries(0)->mutable_value()->set_boolean(true);
  stray.Chunk(v1::Chunk::KIND_VALUES, 0, values.SerializeAsString(), true);
  EXPECT_EQ(stray.End().error_code(), grpc::INVALID_ARGUMENT);
  ExpectAborted(2);
}

TEST_F(SaveOrderTest, DataOnASharedMemoryPart) {
  SessionClient client(rig_.socket_path());
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 1, *layout_, &client), *layout_);
  call.Data(0, "x");
  ExpectRefused(call, grpc::FAILED_PRECONDITION, "stream transport");
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, ProgressBackwardsOrBeyond) {
  SessionClient client(rig_.socket_path());
  SaveCall back(*stub_);
  back.Open(MakeBegin(1, 0, 1, *layout_, &client), *layout_);
  back.Progress(100);
  back.Progress(99);
  ExpectRefused(back, grpc::INVALID_ARGUMENT, "progress to 99");
  SaveCall beyond(*stub_);
  beyond.Open(MakeBegin(2, 0, 1, *layout_, &client), *layout_);
  beyond.Progress(layout_->part_bytes() + 1);
  ExpectRefused(beyond, grpc::INVALID_ARGUMENT, "the credit");
}

TEST_F(SaveOrderTest, FinishTooEarlyOrWithAnotherSize) {
  SaveCall early(*stub_);
  early.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  early.Finish(layout_->part_bytes());
  ExpectRefused(early, grpc::FAILED_PRECONDITION, "Finish after 0 of");
  ExpectAborted(1);
  SessionClient client(rig_.socket_path());
  SaveCall other(*stub_);
  other.Open(MakeBegin(2, 0, 1, *layout_, &client), *layout_);
  other.Finish(5);
  ExpectRefused(other, grpc::INVALID_ARGUMENT, "Finish says 5 bytes");
  ExpectAborted(2);
}

TEST_F(SaveOrderTest, EndingWithoutFinishIsGivingUp) {
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 2, *layout_), *layout_);
  EXPECT_EQ(call.WritesDoneAndEnd().error_code(), grpc::FAILED_PRECONDITION);
  ExpectAborted(1);
}

TEST_F(SaveOrderTest, LayoutChunksOutOfOrderOrWrong) {
  auto refused = [&](uint64_t step, auto send) {
    SaveCall call(*stub_);
    v1::Begin begin = MakeBegin(step, 0, 1, *layout_);
    begin.set_layout_digest(std::string(32, static_cast<char>(step)));
    call.Begin(begin);
    EXPECT_TRUE(call.Read().has_need_plan());
    send(call);
    EXPECT_EQ(call.End().error_code(), grpc::INVALID_ARGUMENT);
    ExpectAborted(step);
  };
  refused(1, [](SaveCall& call) { call.Chunk(v1::Chunk::KIND_LAYOUT, 5, "x", true); });
  refused(2, [](SaveCall& call) { call.Chunk(v1::Chunk::KIND_VALUES, 0, "x", true); });
  refused(3, [](SaveCall& call) { call.Chunk(v1::Chunk::KIND_LAYOUT, 0, "", false); });
  refused(4, [](SaveCall& call) { call.Chunk(v1::Chunk::KIND_LAYOUT, 0, "not it", true); });
}

TEST_F(SaveOrderTest, NamesOnTheWire) {
  for (const std::string& run : {std::string("../up"), std::string(10000, 'x'), std::string()}) {
    v1::Begin begin = MakeBegin(1, 0, 1, *layout_);
    begin.mutable_id()->set_run(run);
    SaveCall call(*stub_);
    call.Begin(begin);
    EXPECT_EQ(call.End().error_code(), grpc::INVALID_ARGUMENT);
  }
}

}  // namespace
}  // namespace ckpt
