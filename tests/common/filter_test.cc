#include "common/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "common/limits.h"

namespace ckpt {
namespace {

using testing::HasSubstr;

v1::Selection Include(std::initializer_list<const char*> patterns) {
  v1::Selection selection;
  for (const char* pattern : patterns) selection.add_include(pattern);
  return selection;
}

LeafFacts Facts(absl::string_view printed_key) { return {.printed_key = printed_key}; }

TEST(FilterTest, IncludeExcludeAndExactKeys) {
  LeafFilter all = LeafFilter::FromSelection({}).value();
  EXPECT_TRUE(all.everything());
  EXPECT_TRUE(all.Matches(Facts("x")));

  v1::Selection selection = Include({"model.**"});
  selection.add_exclude("**.bias");
  *selection.add_keys() = MakeKey({"step"});
  *selection.add_keys() = MakeKey({"a*b"});
  LeafFilter filter = LeafFilter::FromSelection(selection).value();
  EXPECT_FALSE(filter.everything());
  EXPECT_TRUE(filter.Matches(Facts("model.a.weight")));
  EXPECT_FALSE(filter.Matches(Facts("model.a.bias")));
  EXPECT_TRUE(filter.Matches(Facts("step")));
  EXPECT_TRUE(filter.Matches(Facts("a*b")));
  EXPECT_FALSE(filter.Matches(Facts("axb"))) << "exact keys are no patterns";
  EXPECT_EQ(filter.exact_keys(), (std::vector<std::string>{"a*b", "step"}));

  v1::Selection exact;
  *exact.add_keys() = MakeKey({"step"});
  EXPECT_FALSE(LeafFilter::FromSelection(exact)->Matches(Facts("other")));
  v1::Selection exclude;
  exclude.add_exclude("a");
  EXPECT_FALSE(LeafFilter::FromSelection(exclude)->Matches(Facts("a")));
  EXPECT_TRUE(LeafFilter::FromSelection(exclude)->Matches(Facts("b")));
}

v1::Leaf TensorLeaf(std::initializer_list<absl::string_view> key, v1::DType dtype,
                    std::initializer_list<uint64_t> shape) {
  v1::Leaf leaf;
  *leaf.mutable_key() = MakeKey(key);
  leaf.set_kind(v1::LEAF_KIND_TENSOR);
  leaf.set_placement(v1::PLACEMENT_REPLICATED);
  leaf.set_dtype(dtype);
  for (const uint64_t extent : shape) leaf.add_shape(extent);
  return leaf;
}

TEST(FilterTest, MatchesByEveryFact) {
  const v1::Leaf weight = TensorLeaf({"model.x", "weight"}, v1::DTYPE_F32, {2, 3});
  v1::Leaf random = TensorLeaf({"rng"}, v1::DTYPE_U8, {5056});
  random.set_placement(v1::PLACEMENT_PER_RANK);
  v1::Leaf step;
  *step.mutable_key() = MakeKey({"model", "step"});
  step.set_kind(v1::LEAF_KIND_VALUE);
  step.set_placement(v1::PLACEMENT_REPLICATED);
  const LeafFacts weight_facts = FactsOf(weight, "model.x.weight", 0);
  EXPECT_EQ(weight_facts.top_level, "model.x") << "a name with a dot is one segment";
  EXPECT_EQ(weight_facts.bytes, 24u);
  EXPECT_FALSE(weight_facts.rank.has_value());
  const LeafFacts random_facts = FactsOf(random, "rng", 3);
  const LeafFacts step_facts = FactsOf(step, "model.step", 3);
  EXPECT_FALSE(step_facts.bytes.has_value());

  const auto chosen = [&](auto set) {
    v1::Selection selection;
    set(*selection.add_include_matching());
    const LeafFilter filter = LeafFilter::FromSelection(selection).value();
    return std::string(filter.Matches(weight_facts) ? "w" : "") +
           (filter.Matches(random_facts) ? "r" : "") + (filter.Matches(step_facts) ? "s" : "");
  };
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.set_glob("model.**"); }), "ws");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.set_regex("^r|ste"); }), "rs");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.add_dtypes(v1::DTYPE_F32); }), "w");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.set_min_bytes(25); }), "r");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.set_max_bytes(24); }), "w");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.set_top_level("model"); }), "s");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.add_ranks(3); }), "wrs");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) { m.add_ranks(2); }), "ws");
  EXPECT_EQ(chosen([](v1::LeafMatch& m) {
              m.set_glob("model**");
              m.set_min_bytes(0);
            }),
            "w")
      << "all that is set must hold";

  const auto left = [&](auto set) {
    v1::Selection selection;
    set(*selection.add_exclude_matching());
    const LeafFilter filter = LeafFilter::FromSelection(selection).value();
    return std::string(filter.Matches(weight_facts) ? "w" : "") +
           (filter.Matches(random_facts) ? "r" : "") + (filter.Matches(step_facts) ? "s" : "");
  };
  EXPECT_EQ(left([](v1::LeafMatch& m) { m.add_dtypes(v1::DTYPE_U8); }), "ws");
  EXPECT_EQ(left([](v1::LeafMatch& m) { m.add_ranks(3); }), "ws") << "what is shared stays";
  EXPECT_EQ(left([](v1::LeafMatch& m) { m.add_ranks(2); }), "wrs");
  EXPECT_EQ(left([](v1::LeafMatch& m) {
              m.add_ranks(3);
              m.set_glob("model**");
            }),
            "wrs");
}

TEST(FilterTest, PrefixesBoundWhatCanMatch) {
  EXPECT_EQ(LeafFilter::FromSelection({})->Prefixes(), std::vector<std::string>{""});
  v1::Selection selection = Include({"model.layers.1*.weight", "model.layers.12.**"});
  *selection.add_keys() = MakeKey({"step"});
  selection.add_include_matching()->set_top_level("optimizer");
  EXPECT_EQ(LeafFilter::FromSelection(selection)->Prefixes(),
            (std::vector<std::string>{"model.layers.1", "optimizer", "step"}));
  selection.add_include_matching()->set_regex("^optimizer");
  EXPECT_EQ(LeafFilter::FromSelection(selection)->Prefixes(), std::vector<std::string>{""});
}

TEST(FilterTest, RefusesBadMatches) {
  const auto refused = [](auto set) {
    v1::Selection selection;
    set(*selection.add_include_matching());
    return absl::StrCat("", LeafFilter::FromSelection(selection).status().message());
  };
  EXPECT_THAT(refused([](v1::LeafMatch&) {}), testing::HasSubstr("sets nothing"));
  EXPECT_THAT(refused([](v1::LeafMatch& m) { m.set_regex("a(b"); }),
              testing::HasSubstr("missing )"));
  EXPECT_THAT(refused([](v1::LeafMatch& m) {
                m.set_min_bytes(2);
                m.set_max_bytes(1);
              }),
              testing::HasSubstr("min_bytes"));
  EXPECT_THAT(refused([](v1::LeafMatch& m) { m.add_dtypes(v1::DTYPE_UNSPECIFIED); }),
              testing::HasSubstr("no such dtype"));
}

TEST(FilterTest, RefusesBadPatterns) {
  EXPECT_FALSE(LeafFilter::FromSelection(Include({""})).ok());
  EXPECT_FALSE(LeafFilter::FromSelection(Include({"abc\\"})).ok());
  EXPECT_TRUE(LeafFilter::FromSelection(Include({"abc\\\\"})).ok());
  v1::Selection selection;
  selection.add_exclude(std::string(kKeyBytesMax + 1, 'a'));
  EXPECT_FALSE(LeafFilter::FromSelection(selection).ok());
  v1::Selection bad_key;
  bad_key.add_keys();
  EXPECT_FALSE(LeafFilter::FromSelection(bad_key).ok());
  v1::Selection bad_slice;
  bad_slice.add_slices();
  EXPECT_FALSE(LeafFilter::FromSelection(bad_slice).ok());
}

TEST(FilterTest, AllThatIsWrongIsOneError) {
  v1::Selection selection = Include({"a\\", "fine", "b\\"});
  selection.add_include_matching()->set_regex("c(");
  v1::LeafMatch& match = *selection.add_exclude_matching();
  match.set_regex("d[");
  match.set_glob("e\\");
  match.add_dtypes(v1::DTYPE_UNSPECIFIED);
  selection.add_keys();
  const absl::Status status = LeafFilter::FromSelection(selection).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const std::string told(status.message());
  for (const char* text : {"'a\\", "'b\\", "'c('", "'d['", "'e\\", "no such dtype: 0", "key"}) {
    EXPECT_THAT(told, testing::HasSubstr(text));
  }
  EXPECT_THAT(told, testing::Not(testing::HasSubstr("fine")));

  v1::Selection many;
  for (int i = 0; i < 15; ++i) many.add_exclude(absl::StrCat("pattern", i, "\\"));
  many.add_include("pattern3\\");  // told once
  const std::string most(LeafFilter::FromSelection(many).status().message());
  EXPECT_THAT(most, testing::HasSubstr("pattern8"));
  EXPECT_THAT(most, testing::EndsWith("; and 5 more"));
}

TEST(FilterTest, NamedKeysAreAllThatMustBeThere) {
  v1::Selection selection;
  *selection.add_keys() = MakeKey({"b"});
  *selection.add_must_exist() = MakeKey({"c"});
  *selection.add_must_exist() = MakeKey({"b"});
  *selection.add_slices()->mutable_key() = MakeKey({"a"});
  const LeafFilter filter = LeafFilter::FromSelection(selection).value();
  EXPECT_EQ(filter.named_keys(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(filter.Matches(Facts("b")));
  EXPECT_FALSE(filter.Matches(Facts("c"))) << "it must be there, and is not selected by that";
  selection.clear_keys();
  EXPECT_TRUE(LeafFilter::FromSelection(selection)->Matches(Facts("other")));
}

// A few thousand bytes of these would be minutes of compiling.
TEST(FilterTest, LargeRegexesAreRefusedBeforeAllAreCompiled) {
  const auto refused = [](const std::string& regex, int times) {
    v1::Selection selection;
    for (int i = 0; i < times; ++i) selection.add_exclude_matching()->set_regex(regex);
    return std::string(LeafFilter::FromSelection(selection).status().message());
  };
  EXPECT_THAT(refused("\\pL{400}xN", 1), HasSubstr("pattern too large"));
  EXPECT_THAT(refused("\\pL{400}xN", 10000), HasSubstr("this far 7 with"));
  EXPECT_THAT(refused("\\pL{9}", 10000), HasSubstr("or together larger than"));
  EXPECT_THAT(refused("a", 257), HasSubstr("more than 256 regexes"));
  EXPECT_EQ(refused("layer\\.(\\d+)\\.(attn|mlp)\\..*(weight|bias)$", 256), "");
}

}  // namespace
}  // namespace ckpt
