// Saves that go well, over both transports.
#include <cstring>

#include "tests/rpc_save/save_fixture.h"

namespace ckpt {
namespace {

class SaveStreamTest : public SaveServiceTest {};

TEST_F(SaveStreamTest, StreamTransportFromBeginToCommitted) {
  const std::string bytes = Pattern(layout_->part_bytes(), 1);
  SaveCall call(*stub_);
  const v1::Accepted accepted = call.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  EXPECT_EQ(accepted.transport(), v1::TRANSPORT_STREAM);
  EXPECT_EQ(accepted.part_bytes(), bytes.size());
  EXPECT_EQ(accepted.credit(), bytes.size());
  EXPECT_EQ(accepted.resume_from(), 0u);
  uint64_t acknowledged = 0;
  for (uint64_t at = 0; at < bytes.size(); at += 1 << 20) {
    ASSERT_TRUE(call.Data(at, bytes.substr(at, 1 << 20)));
  }
  while (acknowledged < bytes.size()) {
    const v1::SaveResponse response = call.Read();
    ASSERT_TRUE(response.has_ack()) << response.ShortDebugString();
    EXPECT_GT(response.ack().received(), acknowledged) << "acknowledgements go forward";
    acknowledged = response.ack().received();
  }
  ASSERT_TRUE(call.Finish(bytes.size()));
  const v1::SaveResponse staged = call.Read();
  ASSERT_TRUE(staged.has_staged());
  EXPECT_EQ(staged.staged().checkpoint_uid().size(), 16u);
  EXPECT_TRUE(call.End().ok());
  ASSERT_TRUE(Committed(1).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
}

TEST_F(SaveStreamTest, SharedMemoryFromBeginToCommitted) {
  SessionClient client(rig_.socket_path());
  const std::string bytes = Pattern(layout_->part_bytes(), 2);
  SaveCall call(*stub_);
  const v1::Accepted accepted = call.Open(MakeBegin(1, 0, 1, *layout_, &client), *layout_);
  EXPECT_FALSE(accepted.ring());
  EXPECT_GE(accepted.file_bytes(), bytes.size());
  std::memcpy(client.Granted(accepted.file_id()).mapping, bytes.data(), bytes.size());
  call.Finish(bytes.size());
  EXPECT_TRUE(call.Read().has_staged());
  EXPECT_TRUE(call.End().ok());
  ASSERT_TRUE(Committed(1).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
}

TEST_F(SaveStreamTest, AKnownLayoutIsNotAskedForAgain) {
  for (uint64_t step = 1; step <= 2; ++step) {
    SaveCall call(*stub_);
    call.Begin(MakeBegin(step, 0, 1, *layout_));
    v1::SaveResponse response = call.Read();
    EXPECT_EQ(response.has_need_plan(), step == 1);
    if (response.has_need_plan()) {
      call.Chunk(v1::Chunk::KIND_LAYOUT, 0, layout_->serialized(), true);
      response = call.Read();
    }
    EXPECT_TRUE(response.has_accepted());
  }
}

TEST_F(SaveStreamTest, LayoutAndValuesComeInChunks) {
  auto layout = LayoutMaker().PerRank("t", 1000).PerRankValue("epoch").Make();
  SaveCall call(*stub_);
  call.Begin(MakeBegin(1, 0, 1, *layout));
  ASSERT_TRUE(call.Read().has_need_plan());
  const std::string& serialized = layout->serialized();
  for (size_t at = 0; at < serialized.size(); at += 10) {
    call.Chunk(v1::Chunk::KIND_LAYOUT, at, serialized.substr(at, 10), at + 10 >= serialized.size());
  }
  ASSERT_TRUE(call.Read().has_accepted());
  v1::Values values;
  values.add_entries()->set_leaf(1);
  values.mutable_entries(0)->mutable_value()->set_real(0.5);
  const std::string serialized_values = values.SerializeAsString();
  call.Chunk(v1::Chunk::KIND_VALUES, 0, serialized_values.substr(0, 3), false);
  call.Chunk(v1::Chunk::KIND_VALUES, 3, serialized_values.substr(3), true);
  call.Data(0, Pattern(layout->part_bytes(), 1));
  call.Finish(layout->part_bytes());
  EXPECT_TRUE(call.End().ok());
  EXPECT_TRUE(call.last().has_staged());
  ASSERT_TRUE(Committed(1).ok());
}

TEST_F(SaveStreamTest, ABrokenStreamIsResumedByItsRequest) {
  const std::string bytes = Pattern(layout_->part_bytes(), 4);
  const v1::Begin begin = MakeBegin(1, 0, 1, *layout_);
  {
    SaveCall call(*stub_);
    call.Open(begin, *layout_);
    call.Data(0, bytes.substr(0, 1 << 20));
    ASSERT_EQ(call.Read().ack().received(), 1u << 20);
    call.Cancel();
  }
  SaveCall call(*stub_);
  const v1::Accepted accepted = call.Open(begin, *layout_);
  ASSERT_EQ(accepted.resume_from(), 1u << 20);
  for (uint64_t at = accepted.resume_from(); at < bytes.size(); at += 2 << 20) {
    call.Data(at, bytes.substr(at, 2 << 20));
  }
  call.Finish(bytes.size());
  EXPECT_TRUE(call.End().ok());
  ASSERT_TRUE(Committed(1).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
}

class SmallBudgetTest : public SaveServiceTest {
 protected:
  SmallBudgetTest() : SaveServiceTest({.budget_bytes = 4 << 20}) {}
};

TEST_F(SmallBudgetTest, ARingGivesCreditAsTheDiskTakesItsBytes) {
  SessionClient client(rig_.socket_path());
  auto layout = PlainLayout(20 << 20);
  const std::string bytes = Pattern(layout->part_bytes(), 5);
  SaveCall call(*stub_);
  const v1::Accepted accepted = call.Open(MakeBegin(1, 0, 1, *layout, &client), *layout);
  ASSERT_TRUE(accepted.ring());
  const SessionClient::File file = client.Granted(accepted.file_id());
  uint64_t credit = accepted.credit();
  uint64_t at = 0;
  while (at < bytes.size()) {
    const uint64_t piece =
        std::min(credit - at, accepted.file_bytes() - at % accepted.file_bytes());
    if (piece == 0) {
      const v1::SaveResponse response = call.Read();
      ASSERT_TRUE(response.has_credit()) << response.ShortDebugString();
      EXPECT_GT(response.credit().credit(), credit);
      credit = response.credit().credit();
      continue;
    }
    std::memcpy(file.mapping + at % accepted.file_bytes(), bytes.data() + at, piece);
    at += piece;
    ASSERT_TRUE(call.Progress(at));
  }
  call.Finish(bytes.size());
  EXPECT_TRUE(call.End().ok());
  EXPECT_TRUE(call.last().has_staged());
  ASSERT_TRUE(Committed(1).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
}

}  // namespace
}  // namespace ckpt
