#include "client/torch/checkpointer.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/torch/flatten.h"
#include "client/torch/load.h"
#include "client/torch/load_selection.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace ckpt {

class Checkpointer::Impl {
 public:
  Impl(CheckpointerOptions options, std::unique_ptr<Client> client)
      : options_(std::move(options)), client_(std::move(client)) {}

  absl::StatusOr<Part> ToPart(const StateDict& state, const TorchSaveOptions& options) const {
    return MakePart(state, options, options_.rank, options_.world_size, options_.share);
  }
  LoadingRank loading_rank() const { return {options_.rank, options_.world_size}; }

  absl::StatusOr<std::shared_ptr<RestorePlan>> Plan(const v1::Selector& selector,
                                                    const LoadOptions& options,
                                                    const v1::Selection& selection) {
    RestoreOptions restore = options.restore;
    restore.selection = selection;
    const bool newest = selector.latest() || selector.latest_valid();
    if (newest && options.agree_on_latest && !restore.group && options_.world_size > 1 &&
        !options_.incarnation.none()) {
      restore.group.emplace();
      restore.group->set_incarnation(options_.incarnation.bytes());
      restore.group->set_world_size(options_.world_size);
    }
    // Each rank of the launch loads, and at about the same time.
    if (restore.ranks_together == 0) restore.ranks_together = options_.world_size;
    // And takes the same rank's values, if it was told whose.
    restore.per_rank_shared |= options.per_rank_source.has_value() &&
                               options.per_rank_source != LoadOptions::kOwnRankWrapped;
    CKPT_ASSIGN_OR_RETURN(std::unique_ptr<RestorePlan> plan,
                          client_->PlanRestore(selector, restore));
    return std::shared_ptr<RestorePlan>(std::move(plan));
  }

  absl::StatusOr<LoadResult> Load(const Which& which, StateValue& value,
                                  const std::vector<StateKey>& path, const LoadOptions& options) {
    CKPT_ASSIGN_OR_RETURN(const v1::Selector selector, which.ToSelector(options_.run));
    std::optional<LoadSelection> part = SelectionOfLoad(value, path, options);
    const v1::Selection& all = options.restore.selection;
    absl::StatusOr<std::shared_ptr<RestorePlan>> plan =
        Plan(selector, options, part ? part->selection : all);
    // A key that is missing: what there is instead is for the load to tell.
    if (part && absl::IsNotFound(plan.status())) {
      part.reset();
      plan = Plan(selector, options, all);
    }
    CKPT_RETURN_IF_ERROR(plan.status());
    std::optional<NarrowedPlan> narrowed;
    if (part) {
      narrowed.emplace();
      narrowed->partial = std::move(part->partial);
      narrowed->whole = [&](const RestorePlan& narrow) {
        return Plan(SelectorOf(narrow.checkpoint()), options, all);
      };
    }
    try {
      CKPT_ASSIGN_OR_RETURN(LoadResult result,
                            LoadInto(*std::move(plan), loading_rank(), value, path, options,
                                     narrowed ? &*narrowed : nullptr));
      NoteLoaded(result.checkpoint);
      return result;
    } catch (const std::exception& error) {
      return absl::InternalError(absl::StrCat("LibTorch failed: ", error.what()));
    }
  }

  static v1::Selector SelectorOf(const v1::CheckpointInfo& checkpoint) {
    v1::Selector selector;
    selector.set_run(checkpoint.id().run());
    selector.set_step(checkpoint.id().step());
    selector.set_incarnation(checkpoint.id().incarnation());
    return selector;
  }

  // A checkpoint of another run says nothing about this run's steps.
  void NoteLoaded(const v1::CheckpointInfo& checkpoint) {
    if (checkpoint.id().run() == options_.run) resumed_step_ = checkpoint.id().step();
  }

  const CheckpointerOptions options_;
  const std::unique_ptr<Client> client_;
  std::optional<uint64_t> resumed_step_;
};

absl::StatusOr<v1::Selector> Which::ToSelector(const std::string& default_run) const {
  v1::Selector selector;
  if (selector_) {
    selector = *selector_;
    if (selector.run().empty()) selector.set_run(default_run);
  } else if (step_) {
    selector.set_run(default_run);
    selector.set_step(*step_);
  } else {
    const bool names_run = text_->find('@') != std::string::npos;
    return ParseSelector(names_run ? *text_ : absl::StrCat(default_run, "@", *text_));
  }
  return selector;
}

Checkpointer::Checkpointer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpointer::~Checkpointer() = default;

absl::StatusOr<std::unique_ptr<Checkpointer>> Checkpointer::Connect(CheckpointerOptions options) {
  CKPT_RETURN_IF_ERROR(ValidateRun(options.run));
  if (options.rank >= options.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", options.rank, " does not exist in a world of ", options.world_size));
  }
  if (options.incarnation.none() && options.world_size == 1) {
    options.incarnation = Incarnation::TimeOrdered();
  }
  CKPT_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(options.client));
  return std::unique_ptr<Checkpointer>(
      new Checkpointer(std::make_unique<Impl>(std::move(options), std::move(client))));
}

absl::Status Checkpointer::Prepare(const StateDict& state, const TorchSaveOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const Part part, impl_->ToPart(state, options));
  return impl_->client_->Prepare(part);
}

absl::StatusOr<SaveHandle> Checkpointer::Save(uint64_t step, const StateDict& state,
                                              const TorchSaveOptions& options) {
  if (impl_->options_.incarnation.none()) {
    return absl::InvalidArgumentError(
        "CheckpointerOptions::incarnation is not set: all ranks of a launch need the same one to "
        "save (client/torch/launch.h makes it)");
  }
  CKPT_ASSIGN_OR_RETURN(Part part, impl_->ToPart(state, options));
  SaveOptions save = options.save;
  if (!save.resumed_step) save.resumed_step = impl_->resumed_step_;
  return impl_->client_->Save({impl_->options_.run, step, impl_->options_.incarnation},
                              std::move(part), save);
}

absl::StatusOr<LoadResult> Checkpointer::Load(const Which& which, StateDict& state,
                                              const LoadOptions& options) {
  // The walkers hold pointers into the dictionary while they work: it is moved in and out whole.
  StateValue value(std::move(state));
  absl::StatusOr<LoadResult> result = impl_->Load(which, value, {}, options);
  state = std::move(*value.If<StateDict>());
  return result;
}

absl::StatusOr<std::optional<LoadResult>> Checkpointer::Resume(StateDict& state,
                                                               const LoadOptions& options) {
  absl::StatusOr<LoadResult> loaded = Load("latest", state, options);
  if (loaded.ok()) return std::optional<LoadResult>(*std::move(loaded));
  if (absl::IsNotFound(loaded.status())) {
    // Is it the checkpoint that isn't there, or something in it?
    CKPT_ASSIGN_OR_RETURN(const v1::Selector latest,
                          Which("latest").ToSelector(impl_->options_.run));
    if (absl::IsNotFound(client().GetCheckpoint(latest).status())) {
      return std::optional<LoadResult>();
    }
  }
  return loaded.status();
}

absl::StatusOr<LoadResult> Checkpointer::LoadObject(const Which& which, StateValue object,
                                                    const std::vector<StateKey>& path,
                                                    const LoadOptions& options) {
  if (object.is_plain()) {
    return absl::InvalidArgumentError(
        absl::StrCat("LoadObject restores in place, which ", object.KindName(), " cannot be"));
  }
  return impl_->Load(which, object, path, options);
}

absl::StatusOr<StateDict> Checkpointer::Load(const Which& which, const LoadOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const v1::Selector selector, which.ToSelector(impl_->options_.run));
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<RestorePlan> plan,
                        impl_->Plan(selector, options, options.restore.selection));
  try {
    CKPT_ASSIGN_OR_RETURN(StateDict state, LoadRaw(*plan, impl_->loading_rank(), options));
    impl_->NoteLoaded(plan->checkpoint());
    return state;
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("LibTorch failed: ", error.what()));
  }
}

Client& Checkpointer::client() { return *impl_->client_; }
const CheckpointerOptions& Checkpointer::options() const { return impl_->options_; }
std::optional<uint64_t> Checkpointer::resumed_step() const { return impl_->resumed_step_; }

}  // namespace ckpt
