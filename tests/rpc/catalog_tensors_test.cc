// ListTensors: filtered, sorted, page by page.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "tests/rpc/catalog_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(CatalogTest, TensorsAreListedByKeyPageByPage) {
  Save(IdOf("r", 1), std::vector<uint64_t>(12, 10), 2);  // t0 ... t11 of two ranks
  v1::ListTensorsRequest request;
  *request.mutable_selector() = LatestOf("r");
  request.set_page_size(7);
  std::vector<std::string> keys;
  do {
    v1::ListTensorsResponse page;
    const absl::Status status = ListTensors(*catalog_, request, Never, page);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(page.id().step(), 1u);
    for (const v1::TensorInfo& info : page.tensors()) {
      keys.push_back(absl::StrCat(info.leaf().key().segments(0).name(), "/", info.rank()));
      EXPECT_EQ(info.data_bytes(), 10u);
      EXPECT_EQ(info.shard_count(), 1u);
    }
    request.set_page_token(page.next_page_token());
    Save(IdOf("r", 2 + keys.size()));  // later pages stay with the checkpoint of the first
  } while (!request.page_token().empty() && keys.size() < 100);
  EXPECT_EQ(keys.size(), 24u);
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
}

TEST_F(CatalogTest, TensorsAreFiltered) {
  Save(IdOf("r", 1), {10, 10, 10});
  v1::ListTensorsRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  request.mutable_selection()->add_exclude("t1");
  v1::ListTensorsResponse response;
  ASSERT_TRUE(ListTensors(*catalog_, request, Never, response).ok());
  EXPECT_EQ(response.tensors_size(), 2);
  request.mutable_selection()->add_keys()->add_segments()->set_name("t9");
  const absl::Status status = ListTensors(*catalog_, request, Never, response);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("t9"));
}

TEST_F(CatalogTest, PagesMayEndAtTheLongestKeys) {
  v1::Layout layout;
  for (int i = 0; i < 3; ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    const std::string name(4095, 'k');
    *leaf->mutable_key() = MakeKey({name + std::to_string(i)});
    leaf->set_kind(v1::LEAF_KIND_EMPTY_DICT);
    leaf->set_placement(v1::PLACEMENT_PER_RANK);
  }
  SaveLayouts(IdOf("r", 1), {layout});
  v1::ListTensorsRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  request.set_page_size(1);
  for (int i = 0; i < 3; ++i) {
    v1::ListTensorsResponse page;
    const absl::Status status = ListTensors(*catalog_, request, Never, page);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(page.tensors_size(), 1);
    EXPECT_EQ(page.tensors(0).leaf().key().segments(0).name().back(), '0' + i);
    EXPECT_EQ(page.next_page_token().empty(), i == 2);
    request.set_page_token(page.next_page_token());
  }
}

// Also of one whose key prints as nothing.
TEST_F(CatalogTest, AnAliasNamesTheTensorThatHoldsItsBytes) {
  v1::Layout layout;
  for (const char* name : {"", "tied"}) {
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = MakeKey({name});
    leaf->set_kind(v1::LEAF_KIND_TENSOR);
    leaf->set_dtype(v1::DTYPE_F32);
    leaf->add_shape(3);
    leaf->set_placement(v1::PLACEMENT_REPLICATED);
  }
  Box::Whole({3}).ToProto(layout.add_shards()->mutable_box());
  layout.mutable_leaves(1)->set_alias_of_plus_one(1);
  SaveLayouts(IdOf("r", 1), {layout});
  v1::ListTensorsRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  v1::ListTensorsResponse page;
  const absl::Status status = ListTensors(*catalog_, request, Never, page);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(page.tensors_size(), 2);
  EXPECT_FALSE(page.tensors(0).has_alias_of());
  ASSERT_TRUE(page.tensors(1).has_alias_of());
  EXPECT_EQ(page.tensors(1).alias_of(), "");
  EXPECT_EQ(page.tensors(1).shard_count(), 1u);
}

TEST_F(CatalogTest, NearestKeysAreFoundAmongManyByTheirSegments) {
  v1::Layout layout;
  const auto add = [&](const std::vector<absl::string_view>& names) {
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = MakeKey(names);
    leaf->set_kind(v1::LEAF_KIND_EMPTY_DICT);
    leaf->set_placement(v1::PLACEMENT_REPLICATED);
  };
  for (int i = 0; i < 3000; ++i) add({"blocks", std::to_string(i), "weight"});
  add({"transformer", "wte", "weight"});
  add({"transformer", "head", "bias"});
  SaveLayouts(IdOf("r", 1), {layout, layout});
  const auto asked = [&](const std::vector<absl::string_view>& names) {
    v1::ListTensorsRequest request;
    *request.mutable_selector() = StepOf("r", 1);
    *request.mutable_selection()->add_keys() = MakeKey(names);
    v1::ListTensorsResponse page;
    const absl::Status status = ListTensors(*catalog_, request, Never, page);
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(asked({"transfromer", "wte", "weight"}), HasSubstr("'transformer.wte.weight'"));
  EXPECT_THAT(asked({"transformer", "haed", "bias"}), HasSubstr("'transformer.head.bias'"));
  EXPECT_THAT(asked({"blocks", "2777", "wieght"}), HasSubstr("'blocks.2777.weight'"));
  EXPECT_THAT(asked({"nothing", "like", "it", "at", "all"}), Not(HasSubstr("nearest")));
}

// One level of 5,000 names: of one part all are looked at; of twenty the first thousand, and behind
// them what is two edits away.
TEST_F(CatalogTest, NearestKeysAreFoundFarBehindInAFlatState) {
  v1::Layout layout;
  for (int i = 0; i < 5000; ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = MakeKey({absl::StrCat("block_", 10000 + i, "_weight")});
    leaf->set_kind(v1::LEAF_KIND_EMPTY_DICT);
    leaf->set_placement(v1::PLACEMENT_REPLICATED);
  }
  SaveLayouts(IdOf("one", 1), {layout});
  SaveLayouts(IdOf("many", 1), std::vector<v1::Layout>(20, layout));
  const auto asked = [&](const std::string& run, absl::string_view name) {
    v1::ListTensorsRequest request;
    *request.mutable_selector() = StepOf(run, 1);
    *request.mutable_selection()->add_keys() = MakeKey({name});
    v1::ListTensorsResponse page;
    const absl::Status status = ListTensors(*catalog_, request, Never, page);
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    return std::string(status.message());
  };
  for (const char* run : {"one", "many"}) {
    // One edit, two at the beginning and the end, two in the middle.
    EXPECT_THAT(asked(run, "block_14987_wight"), HasSubstr("(nearest: 'block_14987_weight'"))
        << run;
    EXPECT_THAT(asked(run, "bolck_14987_weight"), HasSubstr("'block_14987_weight'")) << run;
    EXPECT_THAT(asked(run, "lock_14987_weights"), HasSubstr("(nearest: 'block_14987_weight'"))
        << run;
    EXPECT_THAT(asked(run, "block14987weight"), HasSubstr("(nearest: 'block_14987_weight'")) << run;
    EXPECT_THAT(asked(run, "nothing like it"), Not(HasSubstr("nearest"))) << run;
  }
  EXPECT_THAT(asked("one", "blck14987weigh"), HasSubstr("(nearest: 'block_14987_weight'"));
}

TEST_F(CatalogTest, AllMissingKeysAreNamedEachWithItsNearest) {
  v1::Layout layout;
  const auto names = [](int i) {
    return std::vector<std::string>{"blocks", std::to_string(i), i % 2 == 0 ? "weight" : "bias"};
  };
  const auto key_of = [](const std::vector<std::string>& segments) {
    v1::Key key;
    for (const std::string& segment : segments) key.add_segments()->set_name(segment);
    return key;
  };
  for (int i = 0; i < 3000; ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = key_of(names(i));
    leaf->set_kind(v1::LEAF_KIND_EMPTY_DICT);
    leaf->set_placement(v1::PLACEMENT_REPLICATED);
  }
  SaveLayouts(IdOf("r", 1), {layout});
  v1::ListTensorsRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  *request.mutable_selection()->add_keys() = key_of({"blocks", "100", "wieght"});
  *request.mutable_selection()->add_keys() = key_of({"blocks", "100", "weight"});
  *request.mutable_selection()->add_must_exist() = key_of({"blocks", "2001", "bais"});
  *request.mutable_selection()->add_slices()->mutable_key() = key_of({"bloks", "0", "weight"});
  v1::ListTensorsResponse page;
  const absl::Status status = ListTensors(*catalog_, request, Never, page);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  const std::string told(status.message());
  EXPECT_THAT(told, HasSubstr("'blocks.100.wieght' (nearest: 'blocks.100.weight'"));
  EXPECT_THAT(told, HasSubstr("'blocks.2001.bais' (nearest: 'blocks.2001.bias'"));
  EXPECT_THAT(told, HasSubstr("'bloks.0.weight' (nearest: 'blocks.0.weight'"));

  request.clear_selection();
  for (int i = 0; i < 14; ++i) {
    *request.mutable_selection()->add_keys() = key_of({"nowhere", std::to_string(10 + i)});
  }
  const std::string many(ListTensors(*catalog_, request, Never, page).message());
  EXPECT_THAT(many, HasSubstr("'nowhere.19' and 4 more"));
}

}  // namespace
}  // namespace ckpt
