"""A relation module with propagation and memory: a reconstruction of MRN.

He et al., *Memory-Augmented Relation Network for Few-Shot Learning*, ACM MM 2020, of which we could read the abstract
alone: instances of an episode and memory slots form a context, similar ones are chosen, their information is propagated
by attention, and the distance is a learned relation module. Everything beyond that is ours. The relation module is that
of Sung et al., *Learning to Compare: Relation Network for Few-Shot Learning*, CVPR 2018.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.downstream.fewshot.config import RelationConfig


class RelationNetwork(nn.Module):
    """Scores of queries for the classes of labeled images ("supports").

    With h the features of an episode, M the memory, and  r(a, b) = w2 . relu(W1 [|a - b| ; a * b] + b1) + b2 :

        for each image i, the k rows j with the largest r(h_i, h_j) of its context (without i):
            h_i <- LayerNorm(h_i + gamma relu(W_o sum_j a_j W_v h_j)),    a = softmax of r / temperature over the k
        score of query q for class c = mean of r(h_q, h_s) over the supports s of c

    The context is the supports and the memory, or the whole episode and the memory. All images are updated at once.
    gamma starts at 0. With k = 0 there is no first part, and no LayerNorm.

    Args:
        dim: width of the features.
        cfg: the settings.
    """

    def __init__(self, dim: int, cfg: RelationConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.pair = nn.Linear(2 * dim, dim)
        self.relation = nn.Linear(dim, 1)
        self.value, self.output = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        self.gamma = nn.Parameter(torch.zeros(()))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        support: Float[Tensor, "S D"],
        query: Float[Tensor, "Q D"],
        labels: Int[Tensor, " S"],
        memory: Float[Tensor, "M D"],
    ) -> Float[Tensor, "Q way"]:
        """Return the scores of the queries for every class of `labels`, which count from 0."""
        features = torch.cat([support, query])
        for _ in range(self.cfg.rounds if self.cfg.neighbors else 0):
            features = self.propagate(features, len(support), memory)
        support, query = features.split([len(support), len(query)])
        one_hot = F.one_hot(labels).to(features.dtype)
        return self.relations(query, support) @ (one_hot / one_hot.sum(dim=0))

    def relations(self, a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
        """Return r(a_i, b_j) of all pairs."""
        first, second = a[:, None], b[None]
        pairs = torch.cat([(first - second).abs(), first * second], dim=-1)
        return self.relation(F.relu(self.pair(pairs))).squeeze(-1)

    def propagate(
        self, features: Float[Tensor, "N D"], supports: int, memory: Float[Tensor, "M D"]
    ) -> Float[Tensor, "N D"]:
        """Return the features of an episode after one round; its first rows are the supports."""
        inside = features[:supports] if self.cfg.context == "support" else features
        context = torch.cat([inside, memory])
        relations = self.relations(features, context)
        own = torch.arange(len(inside), device=features.device)
        relations = relations.index_put((own, own), relations.new_tensor(-torch.inf))
        best, places = relations.topk(min(self.cfg.neighbors, len(context) - 1), dim=1)
        weights = F.softmax(best / self.cfg.temperature, dim=1)
        message = (weights[..., None] * self.value(context)[places]).sum(dim=1)
        return self.norm(features + self.gamma * F.relu(self.output(message)))

    def loss(self, scores: Float[Tensor, "Q way"], labels: Int[Tensor, " Q"]) -> Float[Tensor, ""]:
        """Return the loss of the scores of queries of these classes."""
        if self.cfg.loss == "cross-entropy":
            return F.cross_entropy(scores, labels)
        return F.mse_loss(scores.sigmoid(), F.one_hot(labels, scores.shape[1]).to(scores.dtype))


class ClassMemory(nn.Module):
    """One slot per class of the training: a moving average of the features of the class.

    The first mean that is written fills a slot, and a slot without one takes no part.

    Args:
        classes: number of slots.
        dim: width of the features.
        momentum: share of a slot that stays when it is written.
    """

    slots: Tensor
    written: Tensor

    def __init__(self, classes: int, dim: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("slots", torch.zeros(classes, dim))
        self.register_buffer("written", torch.zeros(classes, dtype=torch.bool))

    def read(self) -> Float[Tensor, "M D"]:
        """Return the slots that were written."""
        return self.slots[self.written]

    @torch.no_grad()
    def write(self, features: Float[Tensor, "way N D"], classes: Int[Tensor, " way"]) -> None:
        """Move the slots of some classes towards the mean of their features."""
        means = features.mean(dim=1)
        moved = self.momentum * self.slots[classes] + (1 - self.momentum) * means
        self.slots[classes] = torch.where(self.written[classes, None], moved, means)
        self.written[classes] = True
