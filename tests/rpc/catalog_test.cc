// The catalogue's runs and checkpoints: listed, shown, deleted, tagged, waited for.
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "server/storage/names.h"
#include "tests/rpc/catalog_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(CatalogTest, RunsAreListedInOrderWithLiveOnesPageByPage) {
  Save(IdOf("b/two", 1));
  Save(IdOf("b/two", 2));
  Save(IdOf("c", 7));
  live_.Add(IdOf("a", 1), v1::CHECKPOINT_STATE_WRITING);
  v1::ListRunsRequest request;
  request.set_page_size(2);
  v1::ListRunsResponse first;
  ASSERT_TRUE(ListRuns(*catalog_, request, first).ok());
  ASSERT_EQ(first.runs_size(), 2);
  EXPECT_EQ(first.runs(0).run(), "a");
  EXPECT_EQ(first.runs(1).run(), "b/two");
  EXPECT_EQ(first.runs(1).checkpoint_count(), 2u);
  EXPECT_EQ(first.runs(1).latest_committed_step(), 2u);
  request.set_page_token(first.next_page_token());
  v1::ListRunsResponse second;
  ASSERT_TRUE(ListRuns(*catalog_, request, second).ok());
  ASSERT_EQ(second.runs_size(), 1);
  EXPECT_EQ(second.runs(0).run(), "c");
  EXPECT_THAT(second.next_page_token(), IsEmpty());
}

TEST_F(CatalogTest, RunsByPrefix) {
  Save(IdOf("team/a", 1));
  Save(IdOf("other", 1));
  v1::ListRunsRequest request;
  request.set_prefix("team/");
  v1::ListRunsResponse response;
  ASSERT_TRUE(ListRuns(*catalog_, request, response).ok());
  ASSERT_EQ(response.runs_size(), 1);
  EXPECT_EQ(response.runs(0).run(), "team/a");
  request.set_prefix("../etc\n");
  EXPECT_TRUE(absl::IsInvalidArgument(ListRuns(*catalog_, request, response)));
}

TEST_F(CatalogTest, TokensOfOthersAreRefused) {
  for (uint64_t step = 0; step < 5; ++step) Save(IdOf("r", step));
  v1::ListCheckpointsRequest request;
  request.set_run("r");
  request.set_page_size(2);
  const auto page = List(request);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_FALSE(page->next_page_token().empty());
  for (const std::string& token :
       {std::string("garbage"), std::string("AAAA"), std::string(5000, 'A'),
        page->next_page_token() + "AAAA", std::string("\0\xff", 2)}) {
    request.set_page_token(token);
    EXPECT_TRUE(absl::IsInvalidArgument(List(request).status())) << token;
  }
  request.set_page_token(page->next_page_token());
  request.set_include_aborted(true);  // another question
  EXPECT_TRUE(absl::IsInvalidArgument(List(request).status()));
  request.clear_page_token();
  request.set_page_size(100000);
  EXPECT_TRUE(absl::IsInvalidArgument(List(request).status()));
}

TEST_F(CatalogTest, CheckpointsComeNewestFirstMergedWithLiveOnes) {
  for (const uint64_t step : {10, 30, 20}) Save(IdOf("r", step));
  live_.Add(IdOf("r", 40), v1::CHECKPOINT_STATE_STAGED);
  live_.Add(IdOf("r", 25), v1::CHECKPOINT_STATE_WRITING);
  live_.Add(IdOf("r", 5), v1::CHECKPOINT_STATE_ABORTED);
  live_.Add(IdOf("other", 50), v1::CHECKPOINT_STATE_WRITING);
  v1::ListCheckpointsRequest request;
  request.set_run("r");
  request.set_page_size(2);
  std::vector<uint64_t> steps;
  int pages = 0;
  do {
    const auto page = List(request);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const uint64_t step : Steps(*page)) steps.push_back(step);
    request.set_page_token(page->next_page_token());
    ++pages;
  } while (!request.page_token().empty() && pages < 10);
  EXPECT_THAT(steps, ElementsAre(40, 30, 25, 20, 10));
  EXPECT_EQ(pages, 3);
  request.clear_page_token();
  request.set_page_size(0);
  request.set_include_aborted(true);
  EXPECT_THAT(Steps(*List(request)), ElementsAre(40, 30, 25, 20, 10, 5));
}

TEST_F(CatalogTest, EveryCallSaysWhenACommittedOneBecameDurable) {
  const CheckpointUid uid = Save(IdOf("r", 1));
  const auto times = [&] {
    std::vector<int64_t> seconds;  // 0: unset
    const auto add = [&](const v1::CheckpointInfo& info) {
      seconds.push_back(info.durable_at().seconds());
    };
    add(Get(StepOf("r", 1))->checkpoint());
    v1::ListCheckpointsRequest list;
    list.set_run("r");
    add(List(list)->checkpoints(0));
    v1::WatchCheckpointsRequest watch;
    watch.set_run("r");
    EXPECT_TRUE(absl::IsCancelled(WatchCheckpoints(
        *catalog_, watch, Never, [&](const v1::WatchCheckpointsResponse& change) {
          if (change.has_checkpoint()) add(change.checkpoint());
          return !change.snapshot_end();
        })));
    v1::PlanRestoreRequest plan;
    *plan.mutable_selector() = StepOf("r", 1);
    add(Plan(plan)->header.checkpoint());
    return seconds;
  };
  EXPECT_THAT(times(), ElementsAre(0, 0, 0, 0));
  live_.SetDurableAt(uid, absl::FromUnixSeconds(77));
  EXPECT_THAT(times(), ElementsAre(77, 77, 77, 77));
}

TEST_F(CatalogTest, UnknownRunNamesTheNearest) {
  Save(IdOf("team/llama-7b", 1));
  v1::ListCheckpointsRequest request;
  request.set_run("team/lama-7b");
  const absl::Status status = List(request).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("team/llama-7b"));
}

TEST_F(CatalogTest, UnknownStepSaysWhichThereAre) {
  Save(IdOf("r", 100));
  Save(IdOf("r", 200));
  const absl::Status status = Get(StepOf("r", 150)).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("100"), HasSubstr("200")));
  EXPECT_TRUE(absl::IsNotFound(Get(StepOf("nobody", 1)).status()));
  EXPECT_TRUE(absl::IsNotFound(Get(TagOf("r", "best")).status()));
}

TEST_F(CatalogTest, GetShowsPartsAndFiles) {
  const CheckpointUid uid = Save(IdOf("r", 3), {100, 200}, 2);
  memory_.Put(uid, 1, "x");
  const auto got = Get(StepOf("r", 3));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->checkpoint().state(), v1::CHECKPOINT_STATE_COMMITTED);
  EXPECT_EQ(got->checkpoint().checkpoint_uid(), uid.bytes());
  EXPECT_EQ(got->checkpoint().data_bytes(), 600u);
  EXPECT_EQ(got->checkpoint().world_size(), 2u);
  EXPECT_FALSE(got->checkpoint().in_memory());
  ASSERT_EQ(got->parts_size(), 2);
  EXPECT_EQ(got->parts(0).shard_count(), 2u);
  EXPECT_FALSE(got->parts(0).in_memory());
  EXPECT_TRUE(got->parts(1).in_memory());
  ASSERT_EQ(got->parts(0).disk_files_size(), 1);
  EXPECT_TRUE(names::ParseDataFile(got->parts(0).disk_files(0)).has_value());
}

TEST_F(CatalogTest, GetShowsPartsPageByPage) {
  Save(IdOf("r", 3), {100}, 5);
  v1::GetCheckpointRequest request;
  *request.mutable_selector() = LatestOf("r");
  request.set_page_size(2);
  std::vector<uint32_t> ranks;
  std::vector<int> sizes;
  do {
    v1::GetCheckpointResponse page;
    const absl::Status status = GetCheckpoint(*catalog_, request, Never, page);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(page.checkpoint().id().step(), 3u);
    EXPECT_EQ(page.checkpoint().parts_durable(), 5u);
    for (const v1::PartInfo& part : page.parts()) ranks.push_back(part.rank());
    sizes.push_back(page.parts_size());
    request.set_page_token(page.next_page_token());
    Save(IdOf("r", 3 + sizes.size()));  // later pages stay with the checkpoint of the first
  } while (!request.page_token().empty() && sizes.size() < 10);
  EXPECT_THAT(ranks, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(sizes, ElementsAre(2, 2, 1));
  // Without a page size all that fit in an answer.
  const auto whole = Get(StepOf("r", 3));
  EXPECT_EQ(whole->parts_size(), 5);
  EXPECT_THAT(whole->next_page_token(), IsEmpty());
}

TEST_F(CatalogTest, ThePartsOfAnotherQuestionAreNotShown) {
  Save(IdOf("r", 1), {100}, 3);
  Save(IdOf("s", 1), {100}, 3);
  v1::GetCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  request.set_page_size(1001);
  v1::GetCheckpointResponse page;
  EXPECT_TRUE(absl::IsInvalidArgument(GetCheckpoint(*catalog_, request, Never, page)));
  request.set_page_size(2);
  ASSERT_TRUE(GetCheckpoint(*catalog_, request, Never, page).ok());
  const std::string token = page.next_page_token();
  *request.mutable_selector() = StepOf("s", 1);
  for (const std::string& other : {token, std::string("garbage"), token + "AAAA"}) {
    request.set_page_token(other);
    EXPECT_TRUE(absl::IsInvalidArgument(GetCheckpoint(*catalog_, request, Never, page))) << other;
  }
  *request.mutable_selector() = StepOf("r", 1);
  request.set_page_token(token);
  ASSERT_TRUE(Delete(StepOf("r", 1)).ok());
  const absl::Status deleted = GetCheckpoint(*catalog_, request, Never, page);
  EXPECT_TRUE(absl::IsNotFound(deleted)) << deleted;
  EXPECT_THAT(std::string(deleted.message()), HasSubstr("between two pages"));
}

TEST_F(CatalogTest, GetFindsWhatIsNotCommittedByStepOnly) {
  Save(IdOf("r", 1));
  live_.Add(IdOf("r", 2), v1::CHECKPOINT_STATE_WRITING);
  EXPECT_EQ(Get(StepOf("r", 2))->checkpoint().state(), v1::CHECKPOINT_STATE_WRITING);
  EXPECT_EQ(Get(LatestOf("r"))->checkpoint().id().step(), 1u);
}

TEST_F(CatalogTest, SelectorsAreChecked) {
  Save(IdOf("r", 1));
  v1::Selector none;
  none.set_run("r");
  EXPECT_TRUE(absl::IsInvalidArgument(Get(none).status()));
  none.set_latest(false);
  EXPECT_TRUE(absl::IsInvalidArgument(Get(none).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Get(StepOf("r", uint64_t{1} << 63)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Get(TagOf("r", "latest")).status()));
  v1::Selector odd = StepOf("r", 1);
  odd.set_incarnation("short");
  EXPECT_TRUE(absl::IsInvalidArgument(Get(odd).status()));
}

TEST_F(CatalogTest, HostileRunNamesAreRefusedEverywhere) {
  for (const std::string& run :
       {std::string(""), std::string("/"), std::string("a//b"), std::string("../x"),
        std::string("a/../b"), std::string("a/."), std::string("a\0b", 3), std::string("a b"),
        std::string(10240, 'x'), std::string("\xff\xfe"), std::string("/etc/passwd"),
        std::string("a/"), std::string("a\nb")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Get(StepOf(run, 1)).status())) << run;
    EXPECT_TRUE(absl::IsInvalidArgument(Delete(StepOf(run, 1)))) << run;
    EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf(run, 1), {"t"}))) << run;
    v1::ListCheckpointsRequest list;
    list.set_run(run);
    const absl::Status status = List(list).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << run;
    EXPECT_LT(status.message().size(), 1000u);
    v1::PlanRestoreRequest plan;
    *plan.mutable_selector() = LatestOf(run);
    EXPECT_TRUE(absl::IsInvalidArgument(Plan(plan).status())) << run;
    v1::WaitCheckpointRequest wait;
    wait.mutable_id()->set_run(run);
    wait.set_state(v1::CHECKPOINT_STATE_COMMITTED);
    v1::WaitCheckpointResponse waited;
    EXPECT_TRUE(absl::IsInvalidArgument(
        WaitCheckpoint(*catalog_, wait, absl::InfiniteFuture(), Never, waited)))
        << run;
  }
}

TEST_F(CatalogTest, DeleteHidesAtOnceAndOnce) {
  Save(IdOf("r", 1));
  const CheckpointUid second = Save(IdOf("r", 2));
  memory_.Put(second, 0, "x");
  ASSERT_TRUE(Delete(StepOf("r", 2)).ok());
  EXPECT_TRUE(absl::IsNotFound(Get(StepOf("r", 2)).status()));
  EXPECT_EQ(Get(LatestOf("r"))->checkpoint().id().step(), 1u);
  EXPECT_FALSE(memory_.Has(second, 0));
  EXPECT_TRUE(absl::IsNotFound(Delete(StepOf("r", 2))));
}

TEST_F(CatalogTest, DeleteRefusesWhatIsBeingWritten) {
  live_.Add(IdOf("r", 1), v1::CHECKPOINT_STATE_WRITING);
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete(StepOf("r", 1))));
}

TEST_F(CatalogTest, DeleteRefusesAPinnedOne) {
  const CheckpointUid uid = Save(IdOf("r", 1));
  v1::Labels labels;
  labels.set_pinned(true);
  ASSERT_TRUE(store_->index().PutLabels(uid, labels).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete(StepOf("r", 1))));
}

TEST_F(CatalogTest, ATagMovesWhenSetElsewhere) {
  const CheckpointUid first = Save(IdOf("r", 1));
  const CheckpointUid second = Save(IdOf("r", 2));
  ASSERT_TRUE(Tag(StepOf("r", 1), {"best", "first"}).ok());
  EXPECT_EQ(Get(TagOf("r", "best"))->checkpoint().id().step(), 1u);
  ASSERT_TRUE(Tag(StepOf("r", 2), {"best"}).ok());
  ASSERT_TRUE(Tag(StepOf("r", 2), {"best"}).ok());  // idempotent
  EXPECT_EQ(Get(TagOf("r", "best"))->checkpoint().id().step(), 2u);
  EXPECT_EQ(Get(TagOf("r", "first"))->checkpoint().id().step(), 1u);
  // The files are the truth.
  EXPECT_THAT(store_->folder().ReadLabels(first)->tags(), ElementsAre("first"));
  EXPECT_THAT(store_->folder().ReadLabels(second)->tags(), ElementsAre("best"));
  ASSERT_TRUE(Tag(TagOf("r", "best"), {}, {"best"}).ok());
  EXPECT_TRUE(absl::IsNotFound(Get(TagOf("r", "best")).status()));
}

TEST_F(CatalogTest, BadTagsAreRefused) {
  Save(IdOf("r", 1));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"latest"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"123"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"a/b"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"-f"})));
  EXPECT_TRUE(Tag(StepOf("r", 1), {}, {"-f"}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {std::string(101, 'a')})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"a"}, {"a"})));
  std::vector<std::string> many;
  for (int i = 0; i < 33; ++i) many.push_back(absl::StrCat("tag-", i));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), many)));
}

TEST_F(CatalogTest, WaitKnowsWhatCommittedBeforeThisProcess) {
  Save(IdOf("r", 1));
  v1::WaitCheckpointRequest request;
  *request.mutable_id() = IdOf("r", 1).ToProto();
  request.set_state(v1::CHECKPOINT_STATE_STAGED);
  v1::WaitCheckpointResponse response;
  ASSERT_TRUE(WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response).ok());
  EXPECT_EQ(response.checkpoint().state(), v1::CHECKPOINT_STATE_COMMITTED);
  request.mutable_id()->clear_incarnation();
  EXPECT_TRUE(WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response).ok());
  request.mutable_id()->set_step(2);
  EXPECT_TRUE(absl::IsNotFound(
      WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response)));
  request.set_state(v1::CHECKPOINT_STATE_UNSPECIFIED);
  EXPECT_TRUE(absl::IsInvalidArgument(
      WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response)));
}

}  // namespace
}  // namespace ckpt
