// A client, a part of twenty tensors and a value, and a fake daemon that is strict about the
// protocol.
#ifndef CKPT_TESTS_CLIENT_SAVE_FIXTURE_H_
#define CKPT_TESTS_CLIENT_SAVE_FIXTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "common/key.h"
#include "gtest/gtest.h"
#include "tests/client/fake_save.h"

namespace ckpt {

class SaveTest : public ::testing::Test {
 protected:
  SaveTest() : save_(&daemon_) {
    for (size_t i = 0; i < 20; ++i) {
      std::string& bytes = tensors_.emplace_back(1000 + i * i * 2003, '\0');
      for (size_t b = 0; b < bytes.size(); ++b) bytes[b] = static_cast<char>(b * 7 + i);
    }
    client_ = Connect();
  }
  std::unique_ptr<Client> Connect() {
    auto client = Client::Connect({.socket = daemon_.socket(), .name = "save_test"});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  Part MakePart() {
    Part part;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      part.leaves.push_back(TensorLeaf(MakeKey({"t" + std::to_string(i)}), v1::DTYPE_U8,
                                       {tensors_[i].size()}, tensors_[i].data()));
    }
    v1::Value value;
    value.set_integer(42);
    part.leaves.push_back(ValueLeaf(MakeKey({"step"}), value));
    return part;
  }
  CheckpointId Id(uint64_t step = 1) { return {"team/run", step, incarnation_}; }
  absl::StatusOr<SaveHandle> Save(SaveOptions options = {}, uint64_t step = 1) {
    return client_->Save(Id(step), MakePart(), options);
  }
  // What the daemon got is what the tensors hold.
  void ExpectReceived(const testing::FakeSave::Received& part) {
    const PartLayout& layout = *part.layout;
    ASSERT_EQ(part.bytes.size(), layout.part_bytes());
    for (size_t i = 0; i < layout.shards().size(); ++i) {
      const auto& place = layout.shards()[i];
      const std::string& tensor = tensors_[layout.shard_boxes()[i].leaf];
      ASSERT_EQ(part.bytes.compare(place.part_offset, place.length, tensor), 0) << i;
    }
    ASSERT_EQ(part.values.entries_size(), 1);
    EXPECT_EQ(part.values.entries(0).value().integer(), 42);
  }

  testing::FakeDaemon daemon_;
  testing::FakeSave save_;
  const Incarnation incarnation_ = Incarnation::TimeOrdered();
  std::vector<std::string> tensors_;
  std::unique_ptr<Client> client_;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_CLIENT_SAVE_FIXTURE_H_
