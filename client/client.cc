#include "client/client.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/memory/worker_threads.h"
#include "client/restore/restore_plan.h"
#include "client/save/part_bytes.h"
#include "client/save/part_save.h"
#include "client/save/save_state.h"
#include "client/state/plan_cache.h"
#include "client/transport/connection.h"
#include "common/mutex.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr char kDefaultSocket[] = "/run/ckptd/ckptd.sock";
constexpr int kCopyThreadsMax = 64;
constexpr int kPopulateThreads = 2;

void SetDuration(absl::Duration from, google::protobuf::Duration* to) {
  // The proto's range; "for ever" is ten thousand years there.
  const absl::Duration bounded =
      std::clamp(from, absl::ZeroDuration(), absl::Seconds(int64_t{315576000000}));
  to->set_seconds(absl::ToInt64Seconds(bounded));
  to->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(bounded - absl::Seconds(absl::ToInt64Seconds(bounded)))));
}

v1::Begin MakeBegin(const CheckpointId& id, const Part& part, const PartLayout& layout,
                    const SaveOptions& options, v1::Transport transport) {
  v1::Begin begin;
  begin.set_request_id(RequestId::Random().bytes());
  *begin.mutable_id() = id.ToProto();
  begin.set_rank(part.rank);
  begin.set_world_size(part.world_size);
  for (const uint32_t rank : part.share) begin.add_share(rank);
  begin.set_if_exists(options.if_exists);
  begin.set_on_full(options.on_full);
  begin.set_layout_digest(layout.digest());
  begin.set_transport(transport);
  SetDuration(options.join_deadline, begin.mutable_join_deadline());
  SetDuration(options.memory_wait, begin.mutable_memory_wait());
  if (options.resumed_step.has_value()) begin.set_resumed_step(*options.resumed_step);
  return begin;
}

absl::Status CheckId(const CheckpointId& id) {
  CKPT_RETURN_IF_ERROR(ValidateRun(id.run));
  CKPT_RETURN_IF_ERROR(ValidateStep(id.step));
  if (id.incarnation.none()) {
    return absl::InvalidArgumentError(
        "a checkpoint needs an incarnation: make one per launch with Incarnation::TimeOrdered on "
        "one rank and give it to all");
  }
  return absl::OkStatus();
}

// All of the client's belongings: leaked as a whole in a forked child.
struct Belongings {
  void Forget(const std::shared_ptr<PartSave>& save) {
    MutexLock lock(mutex);
    saves.erase(std::find(saves.begin(), saves.end(), save));
  }

  std::function<void(LogLevel, absl::string_view)> log;
  std::shared_ptr<Connection> connection;
  PlanCache plans;
  Mutex mutex;
  bool closing ABSL_GUARDED_BY(mutex) = false;
  std::vector<std::shared_ptr<PartSave>> saves ABSL_GUARDED_BY(mutex);  // not yet ended
  // Restores share it with the client: a plan may be read after the client is gone.
  std::shared_ptr<WorkerThreads> restore_workers = std::make_shared<WorkerThreads>();
  WorkerThreads workers;  // destroyed first: its tasks use everything above
};

class ClientImpl : public Client {
 public:
  ClientImpl(std::shared_ptr<Connection> connection,
             std::function<void(LogLevel, absl::string_view)> log)
      : own_(new Belongings) {
    own_->connection = std::move(connection);
    own_->log = std::move(log);
  }

  ~ClientImpl() override {
    if (mark_.forked()) return;  // own_ is leaked: its threads are not in this process
    {
      MutexLock lock(own_->mutex);
      own_->closing = true;
      for (const std::shared_ptr<PartSave>& save : own_->saves) save->Cancel();
    }
    own_->connection->Close();
    delete own_;
  }

  absl::Status Prepare(uint64_t part_bytes, int files) override;
  absl::Status Prepare(const Part& part, int files) override;
  absl::StatusOr<SaveHandle> Save(const CheckpointId& id, Part part,
                                  const SaveOptions& options) override;
  absl::StatusOr<std::unique_ptr<RestorePlan>> PlanRestore(const v1::Selector& selector,
                                                           const RestoreOptions& options) override;
  absl::StatusOr<v1::PlanSummary> EstimateRestore(const v1::Selector& selector,
                                                  const RestoreOptions& options) override;
  absl::StatusOr<v1::CheckpointInfo> Wait(const CheckpointId& id, v1::CheckpointState state,
                                          absl::Duration timeout) override;
  absl::StatusOr<v1::CheckpointInfo> GetCheckpoint(const v1::Selector& selector) override;

 private:
  absl::StatusOr<v1::Transport> ChooseTransport(v1::Transport asked) const;
  absl::Status Start(std::shared_ptr<PartSave> save, std::shared_ptr<SaveHandle::Impl> state);

  const ForkMark mark_;
  Belongings* const own_;
};

absl::Status ClientImpl::Prepare(uint64_t part_bytes, int files) {
  CKPT_RETURN_IF_ERROR(mark_.Check());
  if (part_bytes == 0 || files < 1) {
    return absl::InvalidArgumentError("Prepare needs the size of a part and at least one file");
  }
  if (own_->connection->remote()) return absl::OkStatus();  // no staging is shared with it
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session, own_->connection->GetSession());
  v1::PrepareRequest request;
  request.set_session_token(session->token());
  request.set_part_bytes(part_bytes);
  request.set_files(static_cast<uint32_t>(files));
  CKPT_ASSIGN_OR_RETURN(const v1::PrepareResponse response, own_->connection->Prepare(request));
  for (const std::string& bytes : response.file_ids()) {
    CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(bytes, "a prepared file's id"));
    CKPT_ASSIGN_OR_RETURN(
        const std::unique_ptr<StagingUse> use,
        session->files().UseStaging(id, response.file_bytes(), absl::Now() + kGrantTimeout));
    Mapping& mapping = use->mapping();
    const uint64_t step = std::max<uint64_t>(mapping.length() / kPopulateThreads, 1);
    absl::Status statuses[kPopulateThreads];
    own_->workers.RunTogether(kPopulateThreads, [&](int i) {
      const uint64_t begin = static_cast<uint64_t>(i) * step;
      const uint64_t end = i + 1 == kPopulateThreads ? mapping.length() : begin + step;
      if (begin < end) statuses[i] = mapping.Populate(begin, end - begin);
    });
    for (const absl::Status& status : statuses) CKPT_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::Status ClientImpl::Prepare(const Part& part, int files) {
  CKPT_RETURN_IF_ERROR(mark_.Check());
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<const PartStructure> structure,
                        own_->plans.Get(part));
  const uint64_t part_bytes = structure->layout->part_bytes();
  return part_bytes == 0 ? absl::OkStatus() : Prepare(part_bytes, files);
}

absl::StatusOr<v1::Transport> ClientImpl::ChooseTransport(v1::Transport asked) const {
  const bool remote = own_->connection->remote();
  if (asked == v1::TRANSPORT_UNSPECIFIED) {
    return remote ? v1::TRANSPORT_STREAM : v1::TRANSPORT_SHARED_MEMORY;
  }
  if (asked == v1::TRANSPORT_SHARED_MEMORY && remote) {
    return absl::InvalidArgumentError(
        "memory can be shared only with a daemon on this node: connect to its unix socket");
  }
  return asked;
}

absl::StatusOr<SaveHandle> ClientImpl::Save(const CheckpointId& id, Part part,
                                            const SaveOptions& options) {
  const absl::Time called_at = absl::Now();
  CKPT_RETURN_IF_ERROR(mark_.Check());
  CKPT_RETURN_IF_ERROR(CheckId(id));
  if (options.copy_threads < 1 || options.copy_threads > kCopyThreadsMax) {
    return absl::InvalidArgumentError(absl::StrCat("copy_threads must be 1 to ", kCopyThreadsMax));
  }
  CKPT_ASSIGN_OR_RETURN(const v1::Transport transport, ChooseTransport(options.transport));
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<const PartStructure> structure,
                        own_->plans.Get(part));
  CKPT_RETURN_IF_ERROR(CheckSources(part, *structure));
  CKPT_ASSIGN_OR_RETURN(const v1::Values values, CollectValues(part, *structure->layout));

  v1::Begin begin = MakeBegin(id, part, *structure->layout, options, transport);
  auto state = SharedUnlessForked(
      new SaveHandle::Impl(id, own_->connection, structure->layout->part_bytes(), called_at));
  auto bytes = std::make_shared<const PartBytes>(std::move(part), structure, options.overlap);
  auto save = std::make_shared<PartSave>(own_->connection, &own_->workers, state, std::move(bytes),
                                         std::move(begin), values.SerializeAsString(),
                                         options.copy_threads, options.hash_source);
  CKPT_RETURN_IF_ERROR(Start(std::move(save), state));
  return SaveHandle(std::move(state));
}

absl::Status ClientImpl::Start(std::shared_ptr<PartSave> save,
                               std::shared_ptr<SaveHandle::Impl> state) {
  {
    MutexLock lock(own_->mutex);
    if (own_->closing) return absl::CancelledError("the client is being closed");
    own_->saves.push_back(save);
  }
  const absl::Status started = own_->workers.Start([own = own_, save, state = std::move(state)] {
    save->Run();
    const absl::Status status = state->status();
    if (!status.ok() && own->log) own->log(LogLevel::kWarning, status.message());
    own->Forget(save);
  });
  if (!started.ok()) own_->Forget(save);
  return started;
}

absl::StatusOr<std::unique_ptr<RestorePlan>> ClientImpl::PlanRestore(
    const v1::Selector& selector, const RestoreOptions& options) {
  CKPT_RETURN_IF_ERROR(mark_.Check());
  return MakeRestorePlan(own_->connection, own_->restore_workers, selector, options);
}

absl::StatusOr<v1::PlanSummary> ClientImpl::EstimateRestore(const v1::Selector& selector,
                                                           const RestoreOptions& options) {
  CKPT_RETURN_IF_ERROR(mark_.Check());
  return ckpt::EstimateRestore(*own_->connection, selector, options);
}

absl::StatusOr<v1::CheckpointInfo> ClientImpl::Wait(const CheckpointId& id,
                                                    v1::CheckpointState state,
                                                    absl::Duration timeout) {
  CKPT_RETURN_IF_ERROR(mark_.Check());
  CKPT_RETURN_IF_ERROR(ValidateRun(id.run));
  CKPT_RETURN_IF_ERROR(own_->connection->GetSession().status());
  v1::WaitCheckpointRequest request;
  *request.mutable_id() = id.ToProto();
  // An id without incarnation asks for the newest known one of that step.
  if (id.incarnation.none()) request.mutable_id()->clear_incarnation();
  request.set_state(state);
  CKPT_ASSIGN_OR_RETURN(v1::WaitCheckpointResponse response,
                        own_->connection->WaitCheckpoint(request, absl::Now() + timeout));
  return std::move(*response.mutable_checkpoint());
}

absl::StatusOr<v1::CheckpointInfo> ClientImpl::GetCheckpoint(const v1::Selector& selector) {
  CKPT_RETURN_IF_ERROR(mark_.Check());
  CKPT_RETURN_IF_ERROR(own_->connection->GetSession().status());
  v1::GetCheckpointRequest request;
  *request.mutable_selector() = selector;
  CKPT_ASSIGN_OR_RETURN(v1::GetCheckpointResponse response,
                        own_->connection->GetCheckpoint(request));
  return std::move(*response.mutable_checkpoint());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  ConnectionOptions connection_options;
  connection_options.address = options.address;
  connection_options.socket = options.socket;
  if (options.address.empty() && options.socket.empty()) {
    const char* from_environment = std::getenv("CKPTD_SOCKET");
    const bool set = from_environment != nullptr && *from_environment != '\0';
    connection_options.socket = set ? from_environment : kDefaultSocket;
  }
  connection_options.token = options.token;
  if (const char* token = std::getenv("CKPTD_TOKEN"); options.token.empty() && token != nullptr) {
    connection_options.token = token;
  }
  connection_options.tls = options.tls;
  connection_options.name = options.name;
  connection_options.connect_timeout = options.connect_timeout;
  CKPT_ASSIGN_OR_RETURN(std::shared_ptr<Connection> connection,
                        Connection::Open(connection_options));
  return std::unique_ptr<Client>(
      std::make_unique<ClientImpl>(std::move(connection), std::move(options.log)));
}

}  // namespace ckpt
