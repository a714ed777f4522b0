// ListTensors: the leaves of a committed checkpoint, merged over its parts, by printed key.
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/status_macros.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"
#include "server/rpc/leaf_merge.h"
#include "server/rpc/page_token.h"
#include "server/rpc/part_manifest.h"

namespace ckpt {
namespace {

uint64_t DataBytes(const v1::Leaf& leaf) {
  if (!IsTensorKind(leaf.kind())) return 0;
  const std::vector<uint64_t> shape(leaf.shape().begin(), leaf.shape().end());
  return Volume(shape).value_or(0) * DTypeBytes(leaf.dtype());
}

absl::StatusOr<TensorListing> MakeListing(Catalog& catalog, const CheckpointRecord& record,
                                          const v1::Selection& selection) {
  CKPT_ASSIGN_OR_RETURN(LeafMerge merge, LeafMerge::Create(selection));
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(record));
  std::vector<uint32_t> shards;
  for (int i = 0; i < record.manifest.parts_size(); ++i) {
    CKPT_ASSIGN_OR_RETURN(const CommittedPart part,
                          ReadPart(catalog.index, catalog.folder, uid, record.manifest.parts(i)));
    CKPT_RETURN_IF_ERROR(merge.Add(part.manifest.rank(), *part.layout, part.manifest.values()));
    shards.resize(merge.leaves().size());
    for (const v1::Shard& shard : part.layout->proto().shards()) {
      const uint32_t number = merge.numbers(i)[shard.leaf()];
      if (number != LeafMerge::kNotNeeded) ++shards[number];
    }
  }
  CKPT_RETURN_IF_ERROR(merge.CheckNamedKeys());

  TensorListing listing;
  std::vector<std::string> printed;
  for (const v1::PlannedLeaf& planned : merge.leaves()) {
    if (!planned.selected()) continue;
    v1::TensorInfo& info = listing.emplace_back();
    *info.mutable_leaf() = planned.leaf();
    info.set_rank(planned.rank());
    info.set_data_bytes(DataBytes(planned.leaf()));
    info.set_shard_count(
        shards[planned.has_alias_of() ? planned.alias_of() : planned.leaf_number()]);
    if (planned.has_value()) *info.mutable_value() = planned.value();
    printed.push_back(PrintKey(planned.leaf().key()));
  }
  std::vector<size_t> order(listing.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return printed[a] < printed[b]; });
  TensorListing sorted;
  sorted.reserve(listing.size());
  for (const size_t i : order) sorted.push_back(std::move(listing[i]));
  return sorted;
}

}  // namespace

absl::Status ListTensors(Catalog& catalog, const v1::ListTensorsRequest& request,
                         Cancelled cancelled, v1::ListTensorsResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(request.selector()));
  CKPT_ASSIGN_OR_RETURN(const uint32_t items_max, PageItems(request.page_size()));
  const std::string question = absl::StrCat("ListTensors ", request.selector().SerializeAsString(),
                                            " ", request.selection().SerializeAsString());
  // Later pages are of the checkpoint that the first page was of, whatever `latest` means by then.
  absl::StatusOr<CheckpointRecord> record;
  uint64_t begin = 0;
  if (request.page_token().empty()) {
    record = catalog.finder->Find(request.selector(), cancelled);
  } else {
    CKPT_ASSIGN_OR_RETURN(const std::string position,
                          OpenPageToken(question, request.page_token()));
    CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                          CheckpointUid::FromBytes(position.substr(0, 16), "page_token"));
    if (!absl::SimpleAtoi(position.substr(16), &begin)) {
      return absl::InvalidArgumentError("page_token is damaged");
    }
    record = catalog.index->GetCheckpoint(uid);
    if (absl::IsNotFound(record.status())) {
      return absl::NotFoundError("the checkpoint was deleted between two pages");
    }
  }
  CKPT_RETURN_IF_ERROR(record.status());
  const std::string& uid = record->manifest.checkpoint_uid();
  CKPT_ASSIGN_OR_RETURN(
      const auto listing,
      catalog.listings.Get(absl::StrCat(uid, request.selection().SerializeAsString()),
                           [&] { return MakeListing(catalog, *record, request.selection()); }));

  *response.mutable_id() = record->manifest.id();
  size_t bytes = 0;
  uint64_t i = begin;
  for (; i < listing->size(); ++i) {
    if (i - begin == items_max || bytes > kPageBytesMax) break;
    *response.add_tensors() = (*listing)[i];
    bytes += (*listing)[i].ByteSizeLong();
  }
  if (i < listing->size()) {
    response.set_next_page_token(MakePageToken(question, absl::StrCat(uid, i)));
  }
  return absl::OkStatus();
}

}  // namespace ckpt
