// The streamed plan against a merge of whole layouts in memory, on made-up checkpoints of several
// ranks and made-up selections.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/key.h"
#include "common/limits.h"
#include "gmock/gmock.h"
#include "server/rpc/piece_range.h"
#include "tests/rpc/rpc_fixture.h"

namespace ckpt {
namespace {

// A leaf of the checkpoint: its printed key and, where it is PER_RANK, whose. -1: of all.
using LeafName = std::pair<std::string, int>;

// What is known of a piece: box, rank that stores it, blocks.
using PieceFacts = std::tuple<std::string, uint32_t, uint64_t, uint64_t>;

struct ExpectedLeaf {
  bool selected = false;
  uint32_t rank = 0;
  uint32_t position = 0;
  std::string leaf;   // serialized
  std::string value;  // serialized; empty: none
  std::optional<LeafName> alias_of;
  bool whole = false;
  std::vector<Box> boxes;
  std::multiset<PieceFacts> pieces;
};

struct MadeUp {
  std::vector<v1::Layout> layouts;
  std::vector<v1::Values> values;
  std::vector<std::string> keys;  // printed
};

class Maker {
 public:
  explicit Maker(uint32_t seed) : random_(seed), ranks_(1 + Below(4)) {}

  MadeUp Make() {
    made_.layouts.resize(ranks_);
    made_.values.resize(ranks_);
    for (uint32_t i = 0, leaves = 1 + Below(60); i < leaves; ++i) AddLeaf();
    return std::move(made_);
  }

  v1::Selection Select(const MadeUp& made) {
    v1::Selection selection;
    const auto some_key = [&] { return made.keys[Below(static_cast<uint32_t>(made.keys.size()))]; };
    const auto some_glob = [&]() -> std::string {
      switch (Below(4)) {
        case 0:
          return absl::StrCat(some_key().substr(0, 1 + Below(4)), "**");
        case 1:
          return "*.n*";
        case 2:
          return absl::StrCat("**", Below(9));
        default:
          return some_key();
      }
    };
    for (uint32_t i = Below(3); i > 0; --i) selection.add_include(some_glob());
    for (uint32_t i = Below(2); i > 0; --i) selection.add_exclude(some_glob());
    for (uint32_t i = Below(3); i > 0; --i) *selection.add_keys() = KeyOf(some_key());
    if (Below(3) == 0) selection.add_include_matching()->add_dtypes(v1::DTYPE_F32);
    if (Below(4) == 0) selection.add_exclude_matching()->add_ranks(0);
    for (uint32_t i = Below(4); i > 0; --i) AddSlice(made, selection);
    return selection;
  }

 private:
  uint32_t Below(uint32_t bound) { return random_() % bound; }

  static v1::Key KeyOf(const std::string& printed) {
    v1::Key key;
    for (size_t begin = 0; begin <= printed.size();) {
      const size_t dot = std::min(printed.find('.', begin), printed.size());
      key.add_segments()->set_name(printed.substr(begin, dot - begin));
      begin = dot + 1;
    }
    return key;
  }

  std::string NewKey() {
    while (true) {
      std::string key = absl::StrCat(Below(2) == 0 ? "model" : "optimizer");
      for (uint32_t depth = Below(3); depth > 0; --depth) absl::StrAppend(&key, ".n", Below(9));
      if (std::find(made_.keys.begin(), made_.keys.end(), key) != made_.keys.end()) continue;
      if (made_.keys.size() > 40) absl::StrAppend(&key, ".", made_.keys.size());
      made_.keys.push_back(key);
      return key;
    }
  }

  // Into all layouts, or into one; other leaves of theirs come in between.
  void AddLeaf() {
    v1::Leaf leaf;
    *leaf.mutable_key() = KeyOf(NewKey());
    leaf.set_placement(static_cast<v1::Placement>(1 + Below(3)));
    const bool own = leaf.placement() == v1::PLACEMENT_PER_RANK;
    std::vector<uint32_t> declared;
    for (uint32_t rank = 0; rank < ranks_; ++rank) {
      if (!own || Below(3) > 0) declared.push_back(rank);
    }
    if (declared.empty()) declared.push_back(0);
    if (Below(4) == 0) {
      leaf.set_kind(v1::LEAF_KIND_VALUE);
      if (!own) leaf.set_placement(v1::PLACEMENT_REPLICATED);
      const uint32_t writer = declared[Below(static_cast<uint32_t>(declared.size()))];
      for (const uint32_t rank : declared) {
        *made_.layouts[rank].add_leaves() = leaf;
        if (!own && rank != writer) continue;
        v1::Values::Entry* entry = made_.values[rank].add_entries();
        entry->set_leaf(static_cast<uint32_t>(made_.layouts[rank].leaves_size() - 1));
        entry->mutable_value()->set_integer(Below(1000));
      }
      return;
    }
    leaf.set_kind(v1::LEAF_KIND_TENSOR);
    if (Below(4) == 0 && AddAlias(leaf, declared)) return;
    leaf.set_dtype(Below(2) == 0 ? v1::DTYPE_U8 : v1::DTYPE_F32);
    const uint64_t rows = 1 + Below(6);
    leaf.add_shape(rows);
    // Now and then several blocks to a shard.
    leaf.add_shape(Below(8) == 0 ? kHashBlockBytes / 2 + Below(1000) : 1 + Below(5));
    // Own tensors are whole; shared ones are cut by rows, some rank's share may be empty.
    std::vector<uint64_t> cuts = {0, rows};
    for (size_t i = 1; i < declared.size(); ++i) {
      cuts.push_back(Below(static_cast<uint32_t>(rows) + 1));
    }
    std::sort(cuts.begin(), cuts.end());
    for (size_t i = 0; i < declared.size(); ++i) {
      v1::Layout& layout = made_.layouts[declared[i]];
      *layout.add_leaves() = leaf;
      const uint64_t begin = own ? 0 : cuts[i];
      const uint64_t end = own ? rows : cuts[i + 1];
      if (begin == end) continue;
      v1::Shard* shard = layout.add_shards();
      shard->set_leaf(static_cast<uint32_t>(layout.leaves_size() - 1));
      Box({.offset = {begin, 0}, .extent = {end - begin, leaf.shape(1)}})
          .ToProto(shard->mutable_box());
    }
  }

  // Of an earlier tensor that all of these ranks declare.
  bool AddAlias(v1::Leaf& leaf, const std::vector<uint32_t>& declared) {
    const v1::Layout& first = made_.layouts[declared[0]];
    for (int target = 0; target < first.leaves_size(); ++target) {
      const v1::Leaf& candidate = first.leaves(target);
      if (candidate.kind() != v1::LEAF_KIND_TENSOR || candidate.alias_of_plus_one() != 0) continue;
      if (Below(3) == 0) continue;
      const std::string key = PrintKey(candidate.key());
      std::vector<uint32_t> positions;
      for (const uint32_t rank : declared) {
        for (int i = 0; i < made_.layouts[rank].leaves_size(); ++i) {
          if (PrintKey(made_.layouts[rank].leaves(i).key()) == key) {
            positions.push_back(static_cast<uint32_t>(i));
          }
        }
      }
      if (positions.size() != declared.size()) continue;
      if (leaf.placement() != v1::PLACEMENT_PER_RANK) leaf.set_placement(candidate.placement());
      if (leaf.placement() == v1::PLACEMENT_PER_RANK && declared.size() < ranks_ &&
          candidate.placement() != v1::PLACEMENT_PER_RANK && Below(2) == 0) {
        continue;
      }
      leaf.set_dtype(candidate.dtype());
      *leaf.mutable_shape() = candidate.shape();
      for (size_t i = 0; i < declared.size(); ++i) {
        leaf.set_alias_of_plus_one(positions[i] + 1);
        *made_.layouts[declared[i]].add_leaves() = leaf;
      }
      return true;
    }
    return false;
  }

  void AddSlice(const MadeUp& made, v1::Selection& selection) {
    const v1::Layout& layout = made.layouts[Below(ranks_)];
    if (layout.leaves_size() == 0) return;
    const v1::Leaf& leaf =
        layout.leaves(static_cast<int>(Below(static_cast<uint32_t>(layout.leaves_size()))));
    if (leaf.shape_size() != 2) return;
    v1::Selection::Slice* slice = selection.add_slices();
    *slice->mutable_key() = leaf.key();
    Box box;
    for (const uint64_t extent : leaf.shape()) {
      const uint64_t begin = Below(static_cast<uint32_t>(extent));
      box.offset.push_back(begin);
      box.extent.push_back(1 + Below(static_cast<uint32_t>(extent - begin)));
    }
    box.ToProto(slice->mutable_box());
  }

  std::mt19937 random_;
  const uint32_t ranks_;
  MadeUp made_;
};

// The merge, plainly: everything in memory.
class Reference {
 public:
  Reference(const std::vector<std::shared_ptr<const PartLayout>>& layouts, const MadeUp& made,
            const v1::Selection& selection)
      : layouts_(layouts) {
    const LeafFilter filter = *LeafFilter::FromSelection(selection);
    std::map<std::string, std::vector<Box>> slices;
    for (const auto& slice : selection.slices()) {
      slices[PrintKey(slice.key())].push_back(Box::FromProto(slice.box()));
    }
    for (uint32_t rank = 0; rank < layouts.size(); ++rank) {
      const LeafTable& table = layouts[rank]->leaves();
      for (int i = 0; i < static_cast<int>(table.size()); ++i) {
        const LeafView view = table[static_cast<size_t>(i)];
        const std::string key(view.printed_key);
        if (!filter.Matches(FactsOf(view, rank))) continue;
        ExpectedLeaf& leaf = Add(rank, i);
        leaf.selected = true;
        const LeafName own = NameOf(rank, i);
        LeafName storage = own;
        if (view.alias_of_plus_one != 0) {
          const int target = static_cast<int>(view.alias_of_plus_one) - 1;
          storage = NameOf(rank, target);
          Add(rank, target);
          leaves[own].alias_of = storage;
        }
        if (slices.contains(key)) {
          auto& boxes = leaves[storage].boxes;
          boxes.insert(boxes.end(), slices[key].begin(), slices[key].end());
        } else {
          leaves[storage].whole = true;
        }
      }
    }
    for (uint32_t rank = 0; rank < layouts.size(); ++rank) {
      for (const v1::Values::Entry& entry : made.values[rank].entries()) {
        const auto leaf = leaves.find(NameOf(rank, static_cast<int>(entry.leaf())));
        if (leaf != leaves.end() && leaf->second.value.empty()) {
          leaf->second.value = entry.value().SerializeAsString();
        }
      }
      AddPieces(rank);
    }
  }

  std::map<LeafName, ExpectedLeaf> leaves;

 private:
  LeafName NameOf(uint32_t rank, int i) const {
    const LeafView leaf = layouts_[rank]->leaves()[static_cast<size_t>(i)];
    const bool own = leaf.placement == v1::PLACEMENT_PER_RANK;
    return {std::string(leaf.printed_key), own ? static_cast<int>(rank) : -1};
  }

  // The rank that declares a leaf first is told apart even where that one did not select it.
  ExpectedLeaf& Add(uint32_t rank, int i) {
    const auto [it, inserted] = leaves.try_emplace(NameOf(rank, i));
    if (!inserted) return it->second;
    for (uint32_t first = 0; first <= rank; ++first) {
      const LeafTable& table = layouts_[first]->leaves();
      for (size_t j = 0; j < table.size(); ++j) {
        if (NameOf(first, static_cast<int>(j)) != it->first) continue;
        v1::Leaf leaf;
        leaf.ParseFromString(std::string(table.message(j)));
        leaf.clear_alias_of_plus_one();
        it->second.rank = first;
        it->second.position = static_cast<uint32_t>(j);
        it->second.leaf = leaf.SerializeAsString();
        return it->second;
      }
    }
    return it->second;
  }

  void AddPieces(uint32_t rank) {
    const ShardTable& shards = layouts_[rank]->shard_boxes();
    for (size_t s = 0; s < shards.size(); ++s) {
      const auto leaf = leaves.find(NameOf(rank, static_cast<int>(shards[s].leaf)));
      if (leaf == leaves.end()) continue;
      const Box box = shards[s].box();
      const uint64_t element = DTypeBytes(layouts_[rank]->leaves()[shards[s].leaf].dtype);
      uint64_t begin = leaf->second.whole ? 0 : UINT64_MAX;
      uint64_t end = leaf->second.whole ? box.volume() * element : 0;
      for (const Box& wanted : leaf->second.whole ? std::vector<Box>() : leaf->second.boxes) {
        const auto common = Intersect(wanted, box);
        if (!common) continue;
        const uint64_t columns = box.extent[1];
        const auto at = [&](uint64_t row, uint64_t column) {
          return ((row - box.offset[0]) * columns + column - box.offset[1]) * element;
        };
        begin = std::min(begin, at(common->offset[0], common->offset[1]));
        end = std::max(end, at(common->offset[0] + common->extent[0] - 1,
                               common->offset[1] + common->extent[1] - 1) +
                                element);
      }
      if (begin >= end) continue;
      const uint64_t first = begin / kHashBlockBytes;
      leaf->second.pieces.insert({box.ToString(), rank, first,
                                  (end + kHashBlockBytes - 1) / kHashBlockBytes - first});
    }
  }

  const std::vector<std::shared_ptr<const PartLayout>>& layouts_;
};

class PlanProperty : public RpcTest {
 protected:
  std::vector<std::string> part_bytes_;  // by rank

  // Which rank a piece's bytes are of: its part's bytes at that box say so.
  std::optional<uint32_t> RankOf(const std::vector<std::shared_ptr<const PartLayout>>& layouts,
                                 const LeafName& name, const v1::Piece& piece,
                                 const std::string& bytes) {
    for (uint32_t rank = 0; rank < layouts.size(); ++rank) {
      const std::string& part = part_bytes_[rank];
      if (name.second >= 0 && name.second != static_cast<int>(rank)) continue;
      for (size_t s = 0; s < layouts[rank]->shards().size(); ++s) {
        const ShardView shard = layouts[rank]->shard_boxes()[s];
        const PartLayout::ShardPlace& place = layouts[rank]->shards()[s];
        if (layouts[rank]->leaves().printed_key(shard.leaf) == name.first &&
            shard.box() == Box::FromProto(piece.box()) &&
            part.compare(place.part_offset, place.length, bytes) == 0) {
          return rank;
        }
      }
    }
    return std::nullopt;
  }

  void Compare(const MadeUp& made, const std::vector<std::shared_ptr<const PartLayout>>& layouts,
               const v1::Selection& selection, uint64_t step) {
    v1::PlanRestoreRequest request;
    *request.mutable_selector() = StepOf("r", step);
    *request.mutable_selection() = selection;
    const auto plan = Plan(request);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const Reference reference(layouts, made, selection);
    ASSERT_EQ(plan->leaves.size(), reference.leaves.size());
    std::vector<LeafName> names;
    for (const v1::PlannedLeaf& planned : plan->leaves) {
      EXPECT_EQ(planned.leaf_number(), names.size());
      names.emplace_back(PrintKey(planned.leaf().key()),
                         planned.leaf().placement() == v1::PLACEMENT_PER_RANK
                             ? static_cast<int>(planned.rank())
                             : -1);
    }
    std::map<LeafName, std::multiset<PieceFacts>> pieces;
    uint64_t to_read = 0;
    for (const v1::Piece& piece : plan->pieces) {
      const LeafName& name = names[piece.leaf_number()];
      const auto bytes = ReadPiece(*plan, piece);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      for (int b = 0; b < piece.block_hashes_size(); ++b) {
        const auto block = absl::string_view(*bytes).substr(
            (piece.first_block() + static_cast<uint64_t>(b)) * kHashBlockBytes, kHashBlockBytes);
        EXPECT_EQ(Xxh3(block), piece.block_hashes(b));
        to_read += block.size();
      }
      const auto rank = RankOf(layouts, name, piece, *bytes);
      ASSERT_TRUE(rank.has_value()) << name.first;
      pieces[name].insert({Box::FromProto(piece.box()).ToString(), *rank, piece.first_block(),
                           static_cast<uint64_t>(piece.block_hashes_size())});
    }
    v1::PlanSummary summary;
    summary.set_bytes_from_disk(to_read);
    for (const v1::PlannedLeaf& planned : plan->leaves) {
      const LeafName& name = names[planned.leaf_number()];
      const auto expected = reference.leaves.find(name);
      ASSERT_NE(expected, reference.leaves.end()) << name.first << " of " << name.second;
      EXPECT_EQ(planned.selected(), expected->second.selected) << name.first;
      EXPECT_EQ(planned.rank(), expected->second.rank) << name.first;
      EXPECT_EQ(planned.position(), expected->second.position) << name.first;
      EXPECT_EQ(planned.leaf().SerializeAsString(), expected->second.leaf) << name.first;
      EXPECT_EQ(planned.has_value() ? planned.value().SerializeAsString() : "",
                expected->second.value)
          << name.first;
      ASSERT_EQ(planned.has_alias_of(), expected->second.alias_of.has_value()) << name.first;
      if (planned.has_alias_of()) {
        EXPECT_EQ(names[planned.alias_of()], expected->second.alias_of);
      }
      EXPECT_EQ(pieces[name], expected->second.pieces) << name.first << " of " << name.second;
      summary.set_leaves(summary.leaves() + planned.selected());
      const bool tensor = planned.leaf().kind() == v1::LEAF_KIND_TENSOR;
      summary.set_tensors(summary.tensors() + (planned.selected() && tensor));
      if (!tensor || planned.has_alias_of()) continue;
      Need need{.whole = expected->second.whole};
      need.Add(&expected->second.boxes);
      const uint64_t element = DTypeBytes(planned.leaf().dtype());
      summary.set_bytes(summary.bytes() +
                        need.Bytes(element, planned.leaf().shape(0) * planned.leaf().shape(1) *
                                                element));
    }
    EXPECT_EQ(plan->summary.SerializeAsString(), summary.SerializeAsString())
        << plan->summary.DebugString() << summary.DebugString();

    // Without the pieces, and without the leaves.
    request.set_leaves_only(true);
    const auto leaves_only = Plan(request);
    ASSERT_TRUE(leaves_only.ok()) << leaves_only.status();
    EXPECT_EQ(leaves_only->leaves.size(), plan->leaves.size());
    EXPECT_TRUE(leaves_only->pieces.empty());
    EXPECT_EQ(leaves_only->summary.SerializeAsString(), summary.SerializeAsString());
    request.set_summary_only(true);
    const auto dry = Plan(request);
    ASSERT_TRUE(dry.ok()) << dry.status();
    EXPECT_EQ(dry->order, std::vector<std::string>{"header"});
    EXPECT_EQ(dry->summary.SerializeAsString(), summary.SerializeAsString());

    ListAndCompare(selection, reference, step);
  }

  void ListAndCompare(const v1::Selection& selection, const Reference& reference, uint64_t step) {
    v1::ListTensorsRequest list;
    *list.mutable_selector() = StepOf("r", step);
    *list.mutable_selection() = selection;
    list.set_page_size(3);
    std::vector<LeafName> listed;
    do {
      v1::ListTensorsResponse page;
      const absl::Status status = ListTensors(*catalog_, list, Never, page);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_LE(page.tensors_size(), 3);
      for (const v1::TensorInfo& info : page.tensors()) {
        const bool own = info.leaf().placement() == v1::PLACEMENT_PER_RANK;
        listed.emplace_back(PrintKey(info.leaf().key()),
                            own ? static_cast<int>(info.rank()) : -1);
        const ExpectedLeaf& expected = reference.leaves.at(listed.back());
        EXPECT_EQ(info.has_value() ? info.value().SerializeAsString() : "", expected.value);
        const ExpectedLeaf& storage =
            expected.alias_of ? reference.leaves.at(*expected.alias_of) : expected;
        if (storage.whole) {
          EXPECT_EQ(info.shard_count(), storage.pieces.size());
        }
      }
      list.set_page_token(page.next_page_token());
    } while (!list.page_token().empty());
    std::vector<LeafName> expected;  // a map's order is the list's
    for (const auto& [name, leaf] : reference.leaves) {
      if (leaf.selected) expected.push_back(name);
    }
    EXPECT_EQ(listed, expected);
  }
};

// The plain builds look for wrong plans, the sanitizers for the slips a few plans make as well as
// many.
#ifdef CKPT_SANITIZED
constexpr uint32_t kSeeds = 10;
#else
constexpr uint32_t kSeeds = 40;
#endif

TEST_F(PlanProperty, StreamedPlansAreThoseOfAMergeInMemory) {
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Maker maker(seed);
    const MadeUp made = maker.Make();
    SaveLayouts(IdOf("r", seed), made.layouts, made.values);
    std::vector<std::shared_ptr<const PartLayout>> layouts;
    part_bytes_.clear();
    for (const v1::Layout& layout : made.layouts) {
      layouts.push_back(*PartLayout::FromProto(layout));
      part_bytes_.push_back(PartBytes(*layouts.back(), static_cast<uint32_t>(layouts.size())));
    }
    Compare(made, layouts, v1::Selection(), seed);
    for (int i = 0; i < 5 && !HasFailure(); ++i) {
      const v1::Selection selection = maker.Select(made);
      SCOPED_TRACE(selection.DebugString());
      Compare(made, layouts, selection, seed);
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace ckpt
