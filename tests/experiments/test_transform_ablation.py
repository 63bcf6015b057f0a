"""The ablation of gamma and beta against the same networks written with torch.nn and trained one at a time."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import nn  # noqa: E402

from bnlab.experiments import transform_ablation as ablation  # noqa: E402

STEPS, BATCH, WIDTH, DEPTH = 12, 32, 8, 2
SMALL = {"steps": STEPS, "batch": BATCH, "width": WIDTH, "depth": DEPTH, "every": 4}


class ConstantStatistics(nn.BatchNorm1d):
    """BatchNorm1d whose gradient takes the batch statistics for constants."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            super().forward(x)  # for its update of the running statistics
            var, mu = torch.var_mean(x, dim=0, correction=0)
        return nn.functional.batch_norm(x, mu, var, self.weight, self.bias, training=False, eps=self.eps)


def keep_population_statistics(network, norms, x):
    """Store the mean and the biased variance over x, then evaluate with them."""
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
        for norm in norms:
            norm.running_var *= (len(x) - 1) / len(x)  # torch stores the unbiased variance
    network.eval()


def reference_network(arm, activation, seed, learning_rate):
    """One network out of torch.nn's parts, trained by torch.optim.SGD. Returns it, and its normalization layers."""
    arm = ablation.ARMS[arm]
    weights = ablation.initial_weights(seed, [64, *[WIDTH] * DEPTH, 10])
    layers, norms = [], []
    for weight in weights:
        layers.append(nn.Linear(*weight.shape, bias=weight is weights[-1]))
        with torch.no_grad():
            layers[-1].weight.copy_(weight.T)
            if weight is weights[-1]:
                layers[-1].bias.zero_()
                break
        norms.append((ConstantStatistics if arm.statistics == "constant" else nn.BatchNorm1d)(WIDTH))
        norms[-1].weight.requires_grad_(arm.gamma)
        norms[-1].bias.requires_grad_(arm.beta)
        layers += [norms[-1], {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[activation]()]
    network = nn.Sequential(*layers)
    (x, y), *_ = ablation.load_digits()
    if arm.statistics == "start":
        keep_population_statistics(network, norms, x)  # and stay in evaluation mode
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=learning_rate)
    for chosen in ablation.batch_indices(seed, len(x), STEPS, BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
        optimizer.step()
    if arm.statistics != "start":
        keep_population_statistics(network, norms, x)
    return network, norms


@pytest.mark.parametrize("activation", ablation.ACTIVATIONS)
@pytest.mark.parametrize("arm", ablation.ARMS)
def test_stack_equals_networks_trained_one_at_a_time(arm, activation):
    rate, seeds = 0.5, (3, 8)
    result = ablation.run_arm(arm, activation, seeds, learning_rates=(rate,), **SMALL)
    (x, y), (x_validation, y_validation), (x_test, y_test) = ablation.load_digits()
    for k, seed in enumerate(seeds):
        network, norms = reference_network(arm, activation, seed, rate)
        with torch.no_grad():
            loss = nn.functional.cross_entropy(network(x), y)
            validation_loss = nn.functional.cross_entropy(network(x_validation), y_validation)
            error = (network(x_test).argmax(1) != y_test).double().mean()
        np.testing.assert_allclose(result.train_loss[k], loss, rtol=1e-4)
        np.testing.assert_allclose(result.validation_loss[0, k], validation_loss, rtol=1e-4)
        # one example of the 397 may sit on the boundary between two classes
        assert abs(result.test_error[k] - error) < 1.5 / len(x_test)
        for layer, norm in enumerate(norms):
            np.testing.assert_allclose(result.gamma[k, layer], norm.weight.detach(), atol=1e-4)
            np.testing.assert_allclose(result.beta[k, layer], norm.bias.detach(), atol=1e-4)
            np.testing.assert_allclose(result.mean[k, layer], norm.running_mean, atol=1e-4)
            np.testing.assert_allclose(result.std[k, layer], (norm.running_var + norm.eps).sqrt(), rtol=1e-4)


@pytest.mark.parametrize(
    "arm, gamma, beta",
    [
        ("gamma and beta", True, True),
        ("gamma only", True, False),
        ("beta only", False, True),
        ("neither", False, False),
        ("statistics as constants", True, True),
        ("statistics of the start", True, True),
    ],
)
def test_an_arm_trains_what_its_name_says(arm, gamma, beta):
    result = ablation.run_arm(arm, "sigmoid", (0,), learning_rates=(0.5,), **SMALL)
    assert bool((result.gamma != 1).any()) == gamma
    assert bool((result.beta != 0).any()) == beta


def test_only_one_arm_keeps_the_statistics_of_the_start():
    # A learning rate of 0 leaves the network at its start, where all arms have the same statistics.
    def statistics(arm, rate):
        result = ablation.run_arm(arm, "relu", (0,), learning_rates=(rate,), **SMALL)
        return np.concatenate([result.mean, result.std])

    start = statistics("gamma and beta", 0.0)
    for arm in ablation.ARMS:
        kept = np.array_equal(statistics(arm, 0.5), start)
        assert kept == (arm == "statistics of the start"), arm


def test_arms_start_equal_and_see_the_same_batches():
    # With a learning rate of 0 nothing is learned, so only the start is left.
    losses = [ablation.run_arm(arm, "relu", (1, 2), learning_rates=(0.0,), **SMALL).train_loss for arm in ablation.ARMS]
    assert losses[0][0] != losses[0][1]
    for other in losses[1:]:
        np.testing.assert_array_equal(losses[0], other)
    chosen = ablation.batch_indices(1, 1000, STEPS, BATCH)
    assert not torch.equal(chosen, ablation.batch_indices(2, 1000, STEPS, BATCH))
    assert torch.equal(chosen, ablation.batch_indices(1, 1000, STEPS, BATCH))


def test_each_arm_gets_the_learning_rate_with_the_smallest_validation_loss():
    # The largest rate overflows float32, and must lose without a warning.
    rates = (1e-3, 0.5, 1e30)
    result = ablation.run_arm("gamma and beta", "relu", (0, 1), learning_rates=rates, **SMALL)
    assert result.learning_rate == 0.5
    assert result.validation_loss.shape == (3, 2)
    assert np.isinf(result.validation_loss[2]).all()
    alone = ablation.run_arm("gamma and beta", "relu", (0, 1), learning_rates=(0.5,), **SMALL)
    np.testing.assert_allclose(result.train_loss, alone.train_loss, rtol=1e-4)


def test_steps_to_target_is_the_first_evaluation_that_reaches_it():
    options = {"learning_rates": (0.5,), **SMALL}
    always = ablation.run_arm("neither", "relu", (0, 1), target=1.0, **options)
    never = ablation.run_arm("neither", "relu", (0, 1), target=-1.0, **options)
    np.testing.assert_array_equal(always.steps_to_target, SMALL["every"])
    np.testing.assert_array_equal(never.steps_to_target, np.inf)
    assert (always.seconds_to_target > 0).all() and np.isinf(never.seconds_to_target).all()


def test_run_has_every_arm_with_every_activation():
    options = {"learning_rates": (0.5,), **SMALL, "steps": 2}
    result = ablation.run_arms(seeds=(0,), **options)
    assert set(result) == {(activation, arm) for activation in ablation.ACTIVATIONS for arm in ablation.ARMS}
    for (activation, arm), one in result.items():
        assert (one.activation, one.arm) == (activation, arm)
        assert one.gamma.shape == one.beta.shape == one.mean.shape == one.std.shape == (1, DEPTH, WIDTH)
    assert result["relu", "neither"].train_loss != result["sigmoid", "neither"].train_loss
    chosen = ablation.run_arms(seeds=(0,), arms=["neither"], activations=["relu"], **options)
    assert set(chosen) == {("relu", "neither")}


def test_the_split_is_fixed_disjoint_and_centered_on_the_training_part():
    sets = ablation.load_digits()
    assert [len(x) for x, _ in sets] == [1000, 400, 397]
    assert [len(y) for _, y in sets] == [1000, 400, 397]
    np.testing.assert_allclose(sets[0][0].mean(0), 0, atol=1e-6)
    from sklearn.datasets import load_digits

    raw, labels = load_digits(return_X_y=True)
    together = torch.cat([x for x, _ in sets]).numpy()
    together = (together - together.min(axis=0)) * 16 + raw.min(axis=0)  # undo the centering
    # as multisets of (image, label) the three parts are the whole data set: nothing is lost, nothing is shared
    found = np.column_stack([together.round().astype(int), torch.cat([y for _, y in sets])])
    expected = np.column_stack([raw.astype(int), labels])
    np.testing.assert_array_equal(
        np.sort(found.view([("", int)] * 65), axis=0), np.sort(expected.view([("", int)] * 65), axis=0)
    )


@pytest.mark.parametrize("arm, activation", [("gamma", "relu"), ("neither", "tanh")])
def test_unknown_names_say_what_there_is(arm, activation):
    with pytest.raises(ValueError, match="unknown: choose one of"):
        ablation.run_arm(arm, activation)
