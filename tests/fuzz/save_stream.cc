// The bytes are a script: what up to some dozens of Save calls send, one call after another, on one
// daemon's inside, the clock moving in between. Each step is a byte that says what, and its
// arguments; most say something sensible, so that what comes after Begin is reached.
//
// What must hold: every call ends; memory stays within its budget; what was staged by all of its
// ranks commits or is aborted with a reason; nothing is left open.
#include "server/rpc/save_stream.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "grpcpp/grpcpp.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/targets.h"
#include "tests/staging/staging_rig.h"

namespace ckpt::fuzz {
namespace {

constexpr int kStepsMax = 200;
constexpr int kScriptsPerRig = 300;  // then a new one: what was committed lies in tmpfs, and in the index
// Small, as it is the order of things that goes wrong, and copying that takes the time.
constexpr uint64_t kBudgetBytes = 256 << 10;
constexpr uint64_t kRingBytes = 64 << 10;
constexpr uint64_t kDataBytesMax = 384 << 10;

using Event = SaveConversation::Event;

// One daemon's inside, for many scripts.
struct Place {
  Place()
      : rig({.budget_bytes = kBudgetBytes, .ring_bytes = kRingBytes, .faulty_disk = false}),
        client(rig.socket_path()) {
    layouts = {PlainLayout(5000),
               PlainLayout(kDataBytesMax),
               PlainLayout(4 * kDataBytesMax),
               PlainLayout(0),
               LayoutMaker()
                   .PerRank("a", 100)
                   .PerRankValue("epoch")
                   .Sharded("w", {8, 1024}, Rows(0, 4, 1024))
                   .Replicated("r", {4, 256}, Rows(0, 2, 256))
                   .Make(),
               LayoutMaker().Sharded("w", {8, 1024}, Rows(4, 8, 1024)).Make()};
  }
  StagingRig rig;
  SessionClient client;
  std::vector<std::shared_ptr<const PartLayout>> layouts;
  std::atomic<uint64_t> plan_bytes{0};
  uint64_t step = 0;  // of this script: no two share one, but for small steps that all share
  int scripts = 0;
};

grpc::ByteBuffer Message(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// Plays the script's client: makes up the next event whenever the daemon asks for one.
class Player : public SaveConversation {
 public:
  Player(Place& place, Input& input, int& steps) : place_(place), input_(input), steps_(steps) {}

  Event Next(grpc::ByteBuffer* message, absl::Time deadline) override {
    if (broken_) return Event::kBroken;
    if (half_closed_) return Event::kHalfClosed;
    v1::SaveRequest request;
    // The end of the script, or of one call in it.
    if (input_.empty() || ++steps_ > kStepsMax) return Break();
    switch (const uint8_t what = input_.Byte(); what % 16) {
      case 0:
      case 1:
        *request.mutable_begin() = Begin();
        break;
      case 2:
        Chunk(v1::Chunk::KIND_LAYOUT, 0, layout_->serialized(), true, request);
        break;
      case 3: {
        const auto kind = static_cast<v1::Chunk::Kind>(input_.Byte() % 4);
        const uint64_t offset = input_.Number(2);
        const bool last = input_.Byte() % 2 == 0;
        Chunk(kind, offset, std::string(input_.Bytes(input_.Number(2))), last, request);
        break;
      }
      case 4: {
        v1::Values values;
        v1::Values::Entry* entry = values.add_entries();
        entry->set_leaf(input_.Byte() % 4);
        entry->mutable_value()->set_integer(7);
        Chunk(v1::Chunk::KIND_VALUES, 0, values.SerializeAsString(), true, request);
        break;
      }
      case 5:
      case 6:
        Data(sent_, input_.Number(2) * 5, request);
        break;
      case 7:
        Data(input_.Number(4), input_.Number(3), request);
        break;
      case 8:
        Data(sent_, input_.Number(2), request);
        request.mutable_data()->set_crc32c(static_cast<uint32_t>(input_.Number(4)));
        break;
      case 9:
        request.mutable_progress()->set_written(what < 128 ? layout_->part_bytes()
                                                           : input_.Number(input_.Byte() % 9));
        break;
      case 10:
        request.mutable_finish()->set_part_bytes(layout_->part_bytes());
        break;
      case 11:
        request.mutable_finish()->set_part_bytes(input_.Number(input_.Byte() % 9));
        break;
      case 12:
        *message = Message(std::string(input_.Bytes(input_.Byte())));
        return Event::kMessage;
      case 13:
        half_closed_ = true;
        return Event::kHalfClosed;
      case 14:
        if (deadline != absl::InfiniteFuture()) return Event::kTimeout;
        return Event::kBell;
      default:
        return Break();
    }
    *message = Message(request.SerializeAsString());
    return Event::kMessage;
  }
  void Send(v1::SaveResponse response) override {
    if (response.has_accepted()) {
      Require(
          response.accepted().resume_from() <= layout_->part_bytes() || layout_->part_bytes() == 0,
          "a part resumes within itself");
      sent_ = response.accepted().resume_from();
    }
  }
  void Ring() override {}
  bool broken() const override { return broken_ || input_.empty(); }  // nobody waits for ever

 private:
  Event Break() {
    broken_ = true;
    return Event::kBroken;
  }
  v1::Begin Begin() {
    v1::Begin begin;
    const uint8_t ranks = input_.Byte();
    const uint8_t rules = input_.Byte();
    const uint8_t place = input_.Byte();
    layout_ = place_.layouts[input_.Byte() % place_.layouts.size()];
    CheckpointId id = place_.rig.Id(place % 4 == 0 ? place / 4 : place_.step);
    if (place % 16 == 1) id.incarnation = Incarnation::TimeOrdered();
    *begin.mutable_id() = id.ToProto();
    begin.set_world_size(1 + ranks % 3);
    begin.set_rank((ranks / 3) % begin.world_size());
    // The same for the same part, so that a broken one is resumed.
    begin.set_request_id(std::string(15, 'r') + static_cast<char>(ranks));
    begin.set_if_exists(static_cast<v1::IfExists>(rules % 4));
    begin.set_on_full(static_cast<v1::OnFull>((rules / 4) % 5));
    begin.mutable_memory_wait()->set_seconds(1);
    begin.set_layout_digest(layout_->digest());
    const bool shared = rules >= 128;
    begin.set_transport(shared ? v1::TRANSPORT_SHARED_MEMORY : v1::TRANSPORT_STREAM);
    if (shared) begin.set_session_token(place_.client.token());
    return begin;
  }
  static void Chunk(v1::Chunk::Kind kind, uint64_t offset, std::string data, bool last,
                    v1::SaveRequest& request) {
    request.mutable_chunk()->set_kind(kind);
    request.mutable_chunk()->set_offset(offset);
    request.mutable_chunk()->set_data(std::move(data));
    request.mutable_chunk()->set_last(last);
  }
  void Data(uint64_t offset, uint64_t bytes, v1::SaveRequest& request) {
    request.mutable_data()->set_offset(offset);
    request.mutable_data()->set_data(std::string(bytes % kDataBytesMax, 'd'));
    request.mutable_data()->set_crc32c(Crc32c(request.data().data()));
    sent_ = offset + request.data().data().size();
  }

  Place& place_;
  Input& input_;
  int& steps_;
  std::shared_ptr<const PartLayout> layout_ = place_.layouts[0];
  uint64_t sent_ = 0;
  bool half_closed_ = false;
  bool broken_ = false;
};

void FuzzSaveStream(absl::string_view bytes) {
  static Place* place = nullptr;
  if (place == nullptr) {
    place = new Place;
    std::atexit([] { delete place; });  // before RocksDB's own end, which came into being with it
  } else if (++place->scripts > kScriptsPerRig) {
    delete place;
    place = new Place;
  }
  place->step += 1000;
  Input input(bytes);
  int steps = 0;
  while (!input.empty() && steps < kStepsMax) {
    const auto player = std::make_shared<Player>(*place, input, steps);
    {
      ckpt::SaveStream stream(&place->rig.sessions(), &place->rig.table(), &place->plan_bytes,
                              *Rights::OfTheDaemon(), player);
      const absl::StatusOr<v1::Staged> staged = stream.Run();
      Require(staged.ok() || !staged.status().message().empty(), "a refusal says why");
    }
    const MemoryUsage usage = place->rig.tier().usage();
    Require(usage.used_bytes <= kBudgetBytes + usage.record_bytes, "memory stays in its budget");
    if (input.Byte() % 8 == 0) {
      place->rig.clock().Advance(absl::Seconds(input.Byte() * 10));
      place->rig.table().Tick();
    }
  }
  // Graces and deadlines pass: what was not staged by all is aborted, the rest becomes durable.
  place->rig.clock().Advance(absl::Minutes(30));
  place->rig.table().Tick();
  const uint32_t left =
      place->rig.table().WaitDrained(absl::Now() + absl::Seconds(60), [] { return false; });
  Require(left == 0, "what is staged becomes durable");
  Require(place->rig.table().open_saves() == 0, "no stream is left open");
  Require(place->plan_bytes == 0, "no layout is left counted");
}

const Registration kSaveStream("save_stream", FuzzSaveStream);

}  // namespace
}  // namespace ckpt::fuzz
