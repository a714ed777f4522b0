#include "server/rpc/save_service.h"

#include <atomic>

#include "common/mutex.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/prepare.h"
#include "server/rpc/save_channel.h"
#include "server/rpc/save_stream.h"

namespace ckpt {
namespace {

constexpr char kRetryAfter[] = "retry-after-ms";
constexpr char kRetryAfterMilliseconds[] = "1000";

}  // namespace

class SaveService::Impl
    : public v1::SaveService::WithRawCallbackMethod_Save<v1::SaveService::Service> {
 public:
  explicit Impl(SaveServiceOptions options) : options_(options) {}

  ~Impl() override {
    MutexLock lock(mutex_);
    while (streams_ > 0) idle_.Wait(mutex_);
  }

  SaveChannel::RawReactor* Save(grpc::CallbackServerContext* context) override {
    std::function<void(std::shared_ptr<SaveChannel>)> serve;
    {
      MutexLock lock(mutex_);
      if (streams_ < options_.streams_max) {
        serve = [this, context](const std::shared_ptr<SaveChannel>& channel) {
          Serve(context, channel);
          Ended();
        };
      }
      ++streams_;
    }
    return SaveChannel::Start(
        std::move(serve), [this, context](const std::shared_ptr<SaveChannel>& channel) {
          context->AddTrailingMetadata(kRetryAfter, kRetryAfterMilliseconds);
          channel->Finish(ToGrpcStatus(absl::ResourceExhaustedError(
              "the daemon has its greatest number of open saves, or of threads; retry later")));
          Ended();
        });
  }

  grpc::Status Prepare(grpc::ServerContext* context, const v1::PrepareRequest* request,
                       v1::PrepareResponse* response) override {
    const Gate::RightsOf rights = options_.gate.Enter(*context);
    if (!rights.ok()) return ToGrpcStatus(rights.status());
    // The request names no run: the saves that these files are for will be asked again.
    if (absl::Status may = (*rights)->RequireSomewhere(Verb::kWrite); !may.ok()) {
      return ToGrpcStatus(may);
    }
    absl::StatusOr<v1::PrepareResponse> prepared =
        ckpt::Prepare(*request, options_.sessions, *options_.table, options_.tier);
    if (!prepared.ok()) {
      if (absl::IsResourceExhausted(prepared.status())) {
        context->AddTrailingMetadata(kRetryAfter, kRetryAfterMilliseconds);
      }
      return ToGrpcStatus(prepared.status());
    }
    *response = *std::move(prepared);
    return grpc::Status::OK;
  }

 private:
  // `context` lives until Finish.
  void Serve(grpc::CallbackServerContext* context, const std::shared_ptr<SaveChannel>& channel) {
    const Gate::RightsOf rights = options_.gate.Enter(*context);
    absl::StatusOr<v1::Staged> staged = absl::UnknownError("not served");
    bool retry = false;
    if (!rights.ok()) {
      staged = rights.status();
    } else {
      SaveStream stream(options_.sessions, options_.table, &plan_bytes_, **rights, channel,
                        options_.begin_patience);
      staged = stream.Run();
      retry = stream.retry_helps();
    }  // the part is let go before the client hears of the end
    if (!staged.ok()) {
      if (retry) context->AddTrailingMetadata(kRetryAfter, kRetryAfterMilliseconds);
      channel->Finish(ToGrpcStatus(staged.status()));
      return;
    }
    v1::SaveResponse last;
    *last.mutable_staged() = *std::move(staged);
    channel->Finish(grpc::Status::OK, std::move(last));
  }

  void Ended() {
    MutexLock lock(mutex_);
    --streams_;
    idle_.NotifyAll();
  }

  const SaveServiceOptions options_;
  std::atomic<uint64_t> plan_bytes_{0};
  Mutex mutex_;
  CondVar idle_;
  uint32_t streams_ ABSL_GUARDED_BY(mutex_) = 0;
};

SaveService::SaveService(SaveServiceOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
SaveService::~SaveService() = default;
grpc::Service* SaveService::service() { return impl_.get(); }

}  // namespace ckpt
