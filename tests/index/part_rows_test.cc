// Hashes and values of a part are read some at a time.
#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class PartRows : public IndexTest {};

TEST_F(PartRows, HashesComeInRows) {
  Made made = Make(IdOf("r", 1));
  made.parts[0].clear_block_hashes();
  for (uint64_t i = 0; i < 2500; ++i) made.parts[0].add_block_hashes(i * i);
  ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, {}).ok());
  EXPECT_EQ(WholePart(made.uid, 0)->SerializeAsString(), made.parts[0].SerializeAsString());
  EXPECT_EQ(index_->ReadBlockHashes(made.uid, 0, 2)->size(), 2500 - 2 * Index::kHashesPerRow);
  EXPECT_TRUE(absl::IsNotFound(index_->ReadBlockHashes(made.uid, 0, 3).status()));
  EXPECT_EQ(index_->GetPartHead(made.uid, 0)->block_hashes_size(), 0);
}

TEST_F(PartRows, ValuesAreFoundByTheirKeys) {
  v1::Layout layout;
  v1::Values values;
  for (uint32_t i = 0; i < 1000; ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = MakeKey({absl::StrCat("v", (i * 7919) % 1000)});
    leaf->set_kind(v1::LEAF_KIND_VALUE);
    leaf->set_placement(v1::PLACEMENT_PER_RANK);
    if (i % 3 == 0) continue;
    v1::Values::Entry* entry = values.add_entries();
    entry->set_leaf(i);
    // Now and then a long one: rows are bounded in bytes as well.
    entry->mutable_value()->set_text(std::string(i % 50 == 1 ? 4000 : 3, 'x') + absl::StrCat(i));
  }
  const auto parsed = PartLayout::FromProto(layout);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  Made made = Make(IdOf("r", 1));
  made.parts[0].set_layout_digest((*parsed)->digest());
  *made.parts[0].mutable_layout() = (*parsed)->ToProto();
  *made.parts[0].mutable_values() = values;
  ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, {}).ok());
  std::map<uint32_t, std::string> expected;
  for (const v1::Values::Entry& entry : values.entries()) {
    expected[entry.leaf()] = entry.value().text();
  }
  for (uint32_t i = 0; i < 1000; ++i) {
    const std::string key((*parsed)->leaves().printed_key(i));
    const auto row = index_->ReadValues(made.uid, 0, key);
    ASSERT_TRUE(row.ok()) << row.status();
    EXPECT_LE(row->from, key);
    EXPECT_TRUE(row->until.empty() || key < row->until);
    EXPECT_LE(row->values.entries_size(), 64);
    EXPECT_LE(row->values.ByteSizeLong(), 24u << 10);
    std::string found;
    for (const v1::Values::Entry& entry : row->values.entries()) {
      if (entry.leaf() == i) found = entry.value().text();
    }
    EXPECT_EQ(found, expected[i]);
  }
  const auto none = index_->ReadValues(made.uid, 5, "v1");
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->values.entries_size(), 0);
  EXPECT_EQ(none->from + none->until, "");
}

TEST_F(PartRows, GoWithTheirCheckpoint) {
  Made kept = Make(IdOf("r", 1), {100}, 2);
  Made made = Make(IdOf("r", 2), {100}, 2);
  for (uint64_t i = 0; i < 3000; ++i) made.parts[1].add_block_hashes(i);
  ASSERT_TRUE(index_->PutCheckpoint(kept.manifest, kept.parts, {}).ok());
  ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, {}).ok());
  ASSERT_TRUE(index_->Tombstone(made.uid).ok());
  EXPECT_TRUE(index_->ReadBlockHashes(made.uid, 1, 2).ok());
  ASSERT_TRUE(index_->FinishTombstone(made.uid).ok());
  for (const uint64_t row : {0, 1, 2}) {
    EXPECT_TRUE(absl::IsNotFound(index_->ReadBlockHashes(made.uid, 1, row).status()));
  }
  EXPECT_EQ(WholePart(kept.uid, 1)->SerializeAsString(), kept.parts[1].SerializeAsString());
}

}  // namespace
}  // namespace ckpt
