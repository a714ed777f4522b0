// ListTensors: the leaves of a committed checkpoint, merged over its parts, by printed key. A page
// starts with a seek to where the one before it ended; nothing is kept in between.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/leaf_merge.h"
#include "server/rpc/leaf_selection.h"
#include "server/rpc/page_token.h"

namespace ckpt {
namespace {

// The last leaf of a page, as its token names it.
struct LeafPosition {
  std::string uid;
  uint32_t order = 0;  // among the leaves of that key: 0 for the shared one, else rank + 1
  std::string key;

  static uint32_t OrderOf(const LeafMerge& leaves) { return leaves.own() ? leaves.rank() + 1 : 0; }
  std::string Encode() const {
    std::string bytes = uid;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(order >> shift);
    return bytes + key;
  }
  static std::optional<LeafPosition> Decode(const std::string& bytes) {
    if (bytes.size() < 20) return std::nullopt;
    LeafPosition position{.uid = bytes.substr(0, 16), .key = bytes.substr(20)};
    for (size_t i = 16; i < 20; ++i) {
      position.order = position.order << 8 | static_cast<uint8_t>(bytes[i]);
    }
    return position;
  }
};

// One page.
class TensorPage {
 public:
  TensorPage(LeafMerge& leaves, uint32_t items_max, v1::ListTensorsResponse& response)
      : leaves_(leaves), items_max_(items_max), response_(response) {}

  // The leaf at hand. False: the page is full, and it was not added.
  absl::StatusOr<bool> Add() {
    full_ = static_cast<uint32_t>(response_.tensors_size()) == items_max_ || bytes_ > kPageBytesMax;
    if (full_) return false;
    v1::TensorInfo& info = *response_.add_tensors();
    v1::PlannedLeaf leaf;
    CKPT_RETURN_IF_ERROR(leaves_.Describe(leaf));
    *info.mutable_leaf() = std::move(*leaf.mutable_leaf());
    info.set_rank(leaf.rank());
    if (leaf.has_value()) *info.mutable_value() = std::move(*leaf.mutable_value());
    info.set_data_bytes(leaves_.facts().bytes.value_or(0));
    CKPT_ASSIGN_OR_RETURN(const uint32_t shards, leaves_.CountShards());
    info.set_shard_count(shards);
    if (const CommittedPart* alias = leaves_.alias(); alias != nullptr) {
      info.set_alias_of(std::string(*alias->leaf().alias_target()));
      aliases_.push_back({response_.tensors_size() - 1, alias->rank(),
                          std::string(*alias->leaf().alias_target())});
    }
    bytes_ += info.ByteSizeLong();
    last_order_ = LeafPosition::OrderOf(leaves_);
    last_key_ = std::string(leaves_.printed_key());
    return true;
  }

  // The shards of an alias are those of the leaf that holds its bytes.
  absl::Status Finish() {
    for (const Alias& alias : aliases_) {
      CKPT_RETURN_IF_ERROR(leaves_.Seek(alias.target));
      while (leaves_.valid() && leaves_.printed_key() == alias.target &&
             !leaves_.DeclaredBy(alias.rank)) {
        CKPT_RETURN_IF_ERROR(leaves_.Next());
      }
      if (!leaves_.valid() || leaves_.printed_key() != alias.target) continue;
      CKPT_ASSIGN_OR_RETURN(const uint32_t shards, leaves_.CountShards());
      response_.mutable_tensors(alias.item)->set_shard_count(shards);
    }
    return absl::OkStatus();
  }

  bool full() const { return full_; }
  LeafPosition Last(const std::string& uid) const { return {uid, last_order_, last_key_}; }

 private:
  struct Alias {
    int item = 0;
    uint32_t rank = 0;
    std::string target;
  };
  LeafMerge& leaves_;
  const uint32_t items_max_;
  v1::ListTensorsResponse& response_;
  std::vector<Alias> aliases_;
  size_t bytes_ = 0;
  bool full_ = false;
  uint32_t last_order_ = 0;
  std::string last_key_;
};

}  // namespace

absl::Status ListTensors(Catalog& catalog, const v1::ListTensorsRequest& request,
                         Cancelled cancelled, v1::ListTensorsResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(request.selector()));
  CKPT_ASSIGN_OR_RETURN(const uint32_t items_max, PageItems(request.page_size()));
  CKPT_ASSIGN_OR_RETURN(const LeafSelection selection, LeafSelection::Create(request.selection()));
  const std::string question = absl::StrCat("ListTensors ", request.selector().SerializeAsString(),
                                            " ", request.selection().SerializeAsString());
  absl::StatusOr<CheckpointRecord> record;
  std::optional<LeafPosition> after;
  if (request.page_token().empty()) {
    record = catalog.finder->Find(request.selector(), *catalog.rights, cancelled);
  } else {
    CKPT_ASSIGN_OR_RETURN(const std::string bytes, OpenPageToken(question, request.page_token()));
    after = LeafPosition::Decode(bytes);
    if (!after) return absl::InvalidArgumentError("page_token is damaged");
    CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                          CheckpointUid::FromBytes(after->uid, "page_token"));
    record = catalog.finder->FindForNextPage(request.selector().run(), uid);
  }
  CKPT_RETURN_IF_ERROR(record.status());
  CKPT_ASSIGN_OR_RETURN(LeafMerge leaves, LeafMerge::Open(catalog.index, catalog.folder, *record));
  if (!after) CKPT_RETURN_IF_ERROR(selection.CheckNamed({&leaves}));

  *response.mutable_id() = record->manifest.id();
  TensorPage page(leaves, items_max, response);
  CKPT_RETURN_IF_ERROR(selection.ForEach(
      leaves, after ? after->key : "", cancelled, [&]() -> absl::StatusOr<bool> {
        if (after && leaves.printed_key() == after->key &&
            LeafPosition::OrderOf(leaves) <= after->order) {
          return true;
        }
        return page.Add();
      }));
  CKPT_RETURN_IF_ERROR(page.Finish());
  if (page.full()) {
    response.set_next_page_token(
        MakePageToken(question, page.Last(record->manifest.checkpoint_uid()).Encode()));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
